# Installs a model's requirements inside a container of the base image, and leaves in /out what the environment's image has more than the
# base: /out/env, the packages, and /out/system.tar, the files of system packages, where there are any.
import base64
import json
import os
import subprocess
import sys
import tarfile
import time

CONTEXT = "/context"
CACHE = "/var/cache/kubectl-mlflow"  # outlives the build
# A failure that this program tells itself. What uv says goes out as it is.
TROUBLE = "kubectl-mlflow: "


def say(text):
    print(TROUBLE + text, file=sys.stderr, flush=True)


def run(*command, **more):
    return subprocess.run(command, check=True, **more)


def apt(*packages):
    quiet = dict(os.environ, DEBIAN_FRONTEND="noninteractive")
    if not os.path.exists("/usr/bin/apt-get"):
        say("the base image has no apt-get to install %s with" % " ".join(packages))
        sys.exit(1)
    run("apt-get", "-qq", "update", env=quiet)
    run("apt-get", "-qq", "install", "--yes", "--no-install-recommends", *packages, env=quiet, stdout=subprocess.DEVNULL)


# What installing leaves behind that is no part of a system: lists, caches and logs.
LEFT = ("/proc", "/sys", "/dev", "/run", "/tmp", "/root", "/out", CONTEXT, "/var/lib/apt", "/var/cache", "/var/log", "/var/tmp")


def changed(since):
    """The files that were made or written since then. An installed file keeps its package's time of change; that of its inode is ours."""
    for directory, folders, files in os.walk("/"):
        folders[:] = sorted(f for f in folders if os.path.join(directory, f) not in LEFT)
        for name in sorted(files + [f for f in folders if os.path.islink(os.path.join(directory, f))]):
            path = os.path.join(directory, name)
            if path not in LEFT and os.lstat(path).st_ctime >= since:
                yield path


def pack(paths, name):
    def plain(info):
        info.mtime = 0
        info.uname = info.gname = ""
        return info

    with tarfile.open(name, "w", format=tarfile.PAX_FORMAT) as archive:
        for path in paths:
            archive.add(path, path.lstrip("/"), recursive=False, filter=plain)


def uv_install(arguments, environment):
    """What uv says is kept and shown: whoever asked for the build reads it."""
    process = subprocess.Popen(
        ["uv", "pip", "install", "--color", "never", "--no-progress", "--no-python-downloads", "--link-mode", "copy",
         "--python", sys.executable, "--target", "/out/env", *arguments],
        cwd=os.path.join(CONTEXT, "model"), env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    said = []
    for line in process.stdout:
        said.append(line)
        print(line, end="", file=sys.stderr, flush=True)
    return process.wait(), "".join(said)


def has(program):
    return any(os.access(os.path.join(d, program), os.X_OK) for d in os.environ.get("PATH", "").split(":"))


def compile_bytecode(platform_tools):
    """The same bytecode as a build without Docker makes: of what the server imports, else of everything."""
    launcher = os.path.join(CONTEXT, "launcher", "launcher.py")
    target = "/out/env"
    files = []
    clean = {"PATH": os.environ.get("PATH", ""), "HOME": "/tmp", "PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1"}
    if os.path.exists(launcher):
        imports = subprocess.run([sys.executable, "-s", launcher, "--list-imports"], env=dict(clean, PYTHONPATH=target),
                                 stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if imports.returncode == 0:
            files = [line[len(target) + 1:] for line in imports.stdout.split() if line.startswith(target + "/") and line.endswith(".py")]
    if not files:
        files = [os.path.relpath(os.path.join(d, f), target) for d, _, names in os.walk(target) for f in names if f.endswith(".py")]
    files = sorted(set(files))
    with open(os.path.join(CONTEXT, "compile.py")) as source:
        program = source.read()
    shards = platform_tools["shards"]
    running = []
    for shard in range(shards):
        process = subprocess.Popen([sys.executable, "-s", "-S", "-c", program, target, platform_tools["directory"]], env=clean, stdin=subprocess.PIPE, text=True)
        process.stdin.write("\n".join(files[shard::shards]))
        process.stdin.close()
        running.append(process)
    for process in running:
        if process.wait() != 0:
            say("the packages' bytecode could not be written")
            sys.exit(1)


def main():
    with open(os.path.join(CONTEXT, "plan.json")) as f:
        plan = json.load(f)
    with open("/run/secrets/index") as f:
        index = json.load(f)
    # The way to the world is apt's, too.
    os.environ.update({name: value for name, value in index["variables"].items() if name.lower().endswith("_proxy")})
    environment = dict(os.environ, UV_CACHE_DIR=CACHE + "/uv", PIP_CACHE_DIR=CACHE + "/pip", UV_COMPILE_BYTECODE="0", **index["variables"])
    if index["cas"]:
        with open("/tmp/index-ca.pem", "wb") as f:
            f.write(base64.b64decode(index["cas"]))
        environment.update(SSL_CERT_FILE="/tmp/index-ca.pem", PIP_CERT="/tmp/index-ca.pem")
    os.makedirs("/out/env")
    if plan["apt"]:
        say("installing system packages: " + " ".join(plan["apt"]))
        since = time.time() - 0.1  # the kernel's stamps are a little behind
        try:
            apt(*plan["apt"])
        except subprocess.CalledProcessError:
            say("apt-get could not install " + " ".join(plan["apt"]))
            sys.exit(1)
        pack(list(changed(since)), "/out/system.tar")

    say("fetching uv")
    with open("/tmp/uv.txt", "w") as f:
        f.write(plan["uv"] + "\n")
    pip = dict(environment)
    if environment.get("UV_DEFAULT_INDEX"):
        pip["PIP_INDEX_URL"] = environment["UV_DEFAULT_INDEX"]
    fetched = subprocess.run([sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "install", "--root-user-action", "ignore",
                              "--only-binary", ":all:", "--no-deps", "--require-hashes", "--target", "/tmp/uv", "--requirement", "/tmp/uv.txt"], env=pip)
    if fetched.returncode != 0:
        say("uv could not be fetched from the Python package index")
        sys.exit(1)
    environment["PATH"] = "/tmp/uv/bin:" + environment.get("PATH", "/usr/local/bin:/usr/bin:/bin")
    os.environ["PATH"] = environment["PATH"]

    if plan["git"] and not has("git"):
        say("installing git, which a requirement needs")
        apt("git", "ca-certificates")
    say("fetching packages")
    code, said = uv_install(plan["arguments"], environment)
    if code != 0 and "ailed to build" in said and not has("gcc"):
        say("a requirement has to be compiled: installing a compiler")
        apt("build-essential")
        code, said = uv_install(plan["arguments"], environment)
    if code != 0:
        sys.exit(1)
    say("compiling bytecode")
    compile_bytecode(plan["bytecode"])


main()
