# mlflow.sh BELOW OUT UV CACHE REQUIREMENT...
# Only /usr/local of the root changes, so only that is copied.
below=$1 out=$2 uv=$3 cache=$4
shift 4
mkdir -p "$out/usr/local"
copy "$below/usr/local" "$out/usr/local"
mount --bind "$out/usr/local" "$below/usr/local"
python_packages "$below" "$uv" "$cache" "$@"
# The tests of the largest packages are a quarter of all files, and every node unpacks every file.
for package in joblib matplotlib numpy pandas pyarrow scipy sklearn; do
  find "$out/usr/local/lib/python3.11/site-packages/$package" -type d \( -name tests -o -name test \) -prune -exec rm -rf {} +
done
