# mlflow.sh BELOW OUT ROOT UV CACHE REQUIREMENT...
# Only /usr/local of the root changes, so only that is copied: from the tree below, which is the root itself or has been made upon it.
below=$1 out=$2 root=$3 uv=$4 cache=$5
shift 5
mkdir -p "$out/usr/local"
copy "$below/usr/local" "$out/usr/local"
mount --bind "$out/usr/local" "$root/usr/local"
python_packages "$root" "$uv" "$cache" "$@"
# The tests of the largest packages are a quarter of all files, and every node unpacks every file.
for package in joblib matplotlib numpy pandas pyarrow scipy sklearn; do
  find "$out/usr/local/lib/python3.11/site-packages/$package" -type d \( -name tests -o -name test \) -prune -exec rm -rf {} +
done
