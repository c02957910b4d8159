# python.sh BELOW OUT UV CACHE REQUIREMENT...
below=$1 out=$2 uv=$3 cache=$4
shift 4
copy "$below" "$out"
add_packages "$out" python3.11
# Parts of the standard library that Debian keeps apart, and the wheels that ensurepip installs.
unpack "$out" python3-distutils python3-lib2to3 python3.11-venv python3-pip-whl python3-setuptools-whl
for name in python python3 python3.11; do
  ln -s /usr/bin/python3.11 "$out/usr/local/bin/$name"
done
# In the original the interpreter is the image's own, and so are its packages.
rm "$out/usr/lib/python3.11/EXTERNALLY-MANAGED"
# Debian looks in dist-packages, the original in site-packages: one folder, and files in either are found.
rm -rf "$out/usr/local/lib/python3.11/dist-packages"
mkdir -p "$out/usr/local/lib/python3.11/site-packages"
ln -s site-packages "$out/usr/local/lib/python3.11/dist-packages"
python_packages "$out" "$uv" "$cache" "$@"
