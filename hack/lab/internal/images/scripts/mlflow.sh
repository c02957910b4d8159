# mlflow.sh BELOW OUT UV CACHE REQUIREMENT...
# Only /usr/local of the root changes, so only that is copied.
below=$1 out=$2 uv=$3 cache=$4
shift 4
mkdir -p "$out/usr/local"
copy "$below/usr/local" "$out/usr/local"
mount --bind "$out/usr/local" "$below/usr/local"
python_packages "$below" "$uv" "$cache" "$@"
