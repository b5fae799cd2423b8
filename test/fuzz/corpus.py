"""The corpus of a fuzz target: old findings as files in corpus/TARGET/; seeds made of other tests (seeds.py); and what
fuzzing found worth keeping, packed into corpus/TARGET.tar.gz (thousands of tiny files would bury the rest of the tree).

    test/fuzz/corpus.py pack TARGET DIRECTORY      keeps the files of DIRECTORY (minimised before, by `TARGET -merge=1`)
    test/fuzz/corpus.py unpack TARGET DIRECTORY"""
import gzip
import io
import os
import shutil
import sys
import tarfile

import seeds

HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "corpus")


def pack(target, directory, most=None):
    """The same files give the same archive, byte for byte. most: bytes before they are packed, the smallest files first."""
    raw = io.BytesIO()
    data_of = {name: open(os.path.join(directory, name), "rb").read() for name in os.listdir(directory)}
    names, total = [], 0
    for name in sorted(data_of, key=lambda n: (len(data_of[n]), n)):
        total += len(data_of[name])
        if most is None or total <= most:
            names.append(name)
    with tarfile.open(fileobj=raw, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for number, name in enumerate(sorted(names)):
            data = data_of[name]
            entry = tarfile.TarInfo(f"{number:04}")
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    with open(os.path.join(HERE, target + ".tar.gz"), "wb") as out:
        with gzip.GzipFile(filename="", fileobj=out, mode="wb", mtime=0, compresslevel=9) as packed:
            packed.write(raw.getvalue())


def unpack(target, directory):
    path = os.path.join(HERE, target + ".tar.gz")
    if not os.path.exists(path):
        return
    with tarfile.open(path) as archive:
        for entry in archive:
            with open(os.path.join(directory, os.path.basename(entry.name)), "wb") as out:
                out.write(archive.extractfile(entry).read())


def directories(target, scratch):
    """Directories with the whole corpus of a target, the packed part made below scratch."""
    unpacked = os.path.join(scratch, target + ".kept")
    shutil.rmtree(unpacked, ignore_errors=True)
    os.makedirs(unpacked)
    unpack(target, unpacked)
    seeds.write(target, unpacked)
    more = os.path.join(os.environ.get("FUZZ_CORPUS", HERE), target)
    return [d for d in dict.fromkeys((unpacked, os.path.join(HERE, target), more)) if os.path.isdir(d)]


def options(target):
    """What libFuzzer is told. A whole session reaches thousands of edges and leaves memory to other threads: weighing all of them and
    looking for leaks behind each input took nine tenths of its time. What leaks is found at the end."""
    return ["-entropic=0", "-detect_leaks=0"] if target.endswith("_session") else []


if __name__ == "__main__":
    if len(sys.argv) != 4 or sys.argv[1] not in ("pack", "unpack"):
        sys.exit(__doc__)
    {"pack": pack, "unpack": unpack}[sys.argv[1]](sys.argv[2], sys.argv[3])
