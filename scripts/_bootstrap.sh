# Sourced by the scripts beside it: finds Python and Java, makes .venv, installs Tideline into it, fetches the jars.
# Sets $root (the repository) and $python (the virtual environment's). Bash 3.2 and newer.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
venv=$root/.venv
python=$venv/bin/python

fail() {
    printf 'tideline: %s\n' "$*" >&2
    exit 3
}

say() {
    printf 'tideline: %s\n' "$*" >&2
}

find_python() {
    local candidate
    for candidate in ${PYTHON:-} python3 python3.13 python3.12 python3.11 python3.10; do
        if "$candidate" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; then
            command -v "$candidate"
            return
        fi
    done
    local found
    found=$(python3 --version 2>/dev/null) || found="no Python 3"
    fail "needs Python 3.10 or newer with its venv module, found $found;" \
        "install one (such as the packages python3 and python3-venv), or name one in PYTHON"
}

check_java() {
    local java=java output major
    [ -z "${JAVA_HOME:-}" ] || java=$JAVA_HOME/bin/java
    local advice="install a Java 17+ runtime (such as openjdk-17-jre-headless), or point JAVA_HOME at one"
    output=$("$java" -version 2>&1) || fail "no Java found (tried $java); $advice"
    major=$(printf '%s\n' "$output" | sed -n 's/.*version "\(1\.\)\{0,1\}\([0-9]*\).*/\2/p' | head -n 1)
    [ -n "$major" ] || fail "$java does not run as a Java; $advice"
    [ "$major" -ge 17 ] || fail "$java is Java $major, Tideline needs 17 or newer; $advice"
}

# installed WANTED EXTRAS: whether Tideline and each of the extras were installed from what is wanted.
installed() {
    local extra
    for extra in plain $2; do
        [ "$(cat "$venv/tideline-$extra" 2>/dev/null)" = "$1" ] || return 1
    done
}

# install EXTRAS: "" or such as "[dev,bench]". Does nothing while pyproject.toml is what was last installed.
install() {
    local wanted extras extra base
    wanted="$(cksum <"$root/pyproject.toml") $root"
    extras=$(printf '%s' "$1" | tr '[],' '   ')
    if "$python" -c '' 2>/dev/null; then
        ! installed "$wanted" "$extras" || return 0
    else
        base=$(find_python)
        say "making .venv with $base"
        rm -rf "$venv"
        "$base" -m venv "$venv" || fail "$base -m venv failed; install its venv module (such as the package python3-venv)"
    fi
    say "installing into .venv; this takes a few minutes the first time"
    "$python" -m pip install --quiet --disable-pip-version-check -e "$root$1" ||
        fail "pip could not install Tideline; its own message is above"
    for extra in plain $extras; do
        printf '%s' "$wanted" >"$venv/tideline-$extra"
    done
}

# prepare EXTRAS: everything a script needs before it starts.
prepare() {
    "$python" -c '' 2>/dev/null || find_python >/dev/null
    check_java
    install "$1"
    "$python" -m tideline.runtime.prepare >/dev/null || exit $?
}
