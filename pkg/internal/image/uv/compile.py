# Compiles the files named on standard input, relative to argv[1], for their place in the image, argv[2]. The bytecode does not
# refer to times, which the image does not keep, and is not checked against its source, which cannot change there.
import os
import py_compile
import sys

directory, place = sys.argv[1:]
for name in sys.stdin.read().splitlines():
    try:
        py_compile.compile(
            os.path.join(directory, name),
            dfile=place + "/" + name,
            doraise=True,
            invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
        )
    except (py_compile.PyCompileError, SyntaxError, UnicodeDecodeError):
        pass  # templates and sources for other versions of Python: nobody imports them
