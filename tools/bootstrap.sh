#!/bin/sh
# Makes .venv and fills it, as `make run` and `make test` need it. What is there already is left alone, so that a second
# call costs nothing.
#
#   tools/bootstrap.sh run           what the gateway runs on (requirements.txt)
#   tools/bootstrap.sh dev           what tests and checks need too (requirements-dev.txt)
#   tools/bootstrap.sh system        Debian packages that some tests use; those tests skip by name where one is missing
#   tools/bootstrap.sh conformance   likewise for `make conformance`, with requirements-conformance.txt, and the
#                                    applications that it puts behind the gateway, in .venv-applications
#   tools/bootstrap.sh bench         the proxies that `make bench` compares with, in .venv-bench and as Debian packages
#   tools/bootstrap.sh faults        Debian's nginx and HAProxy, which `make faults` compares with
#
# PYTHON names the interpreter, python3 by default. Exit code 1 says what to type.
set -eu
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
venv=.venv
loss='Tests that need them are skipped.'

say() { printf '%s\n' "$*" >&2; }
fail() { say "$@"; exit 1; }

may_install() { [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; }

# A package that brings a server must not start it here: tests start their own, on free ports.
apt_install() {
    policy=/usr/sbin/policy-rc.d ours= status=0
    if [ ! -e "$policy" ]; then
        ours=yes
        # Ctrl-C too: with this file no service of the machine would ever be started by its package again.
        trap 'rm -f "$policy"' EXIT
        trap 'exit 129' HUP
        trap 'exit 130' INT
        trap 'exit 143' TERM
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod 755 "$policy"
    fi
    DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "$@" >/dev/null || status=$?
    if [ -n "$ours" ]; then
        rm -f "$policy"
        trap - EXIT HUP INT TERM
    fi
    return "$status"
}

check_python() {
    command -v "$python" >/dev/null 2>&1 || fail "$python is not there. Install Python 3.11 or newer."
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || fail \
        "$("$python" -V) is too old: Tentáculo Link needs Python 3.11 or newer." \
        "With another interpreter: PYTHON=python3.12 make run"
}

check_venv_module() {
    if "$python" -c 'import ensurepip, venv' 2>/dev/null; then return; fi
    package=$("$python" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')
    if may_install; then
        say "Installing $package, which makes virtual environments …"
        apt-get update -qq || true
        if apt_install "$package" && "$python" -c 'import ensurepip, venv' 2>/dev/null; then return; fi
    fi
    fail "Python's venv module is missing. Type this, then try again:" "    sudo apt-get install $package"
}

# False also for one whose Python has gone or was upgraded under it.
venv_works() { "$venv/bin/python" -c 'import pip' 2>/dev/null; }

make_venv() {
    if venv_works; then return; fi
    check_python
    check_venv_module
    say "Making $venv …"
    rm -rf "$venv"
    "$python" -m venv "$venv"
}

# The copy of the requirements beside the environment says what is in it; it is written last.
fill_venv() {
    if cmp -s "$1" ".venv/$1" && cmp -s requirements.txt .venv/requirements.txt && venv_works; then return; fi
    make_venv
    say "Installing $1 …"
    .venv/bin/python -m pip install --quiet --disable-pip-version-check -r "$1"
    cp requirements.txt .venv/requirements.txt
    cp "$1" ".venv/$1"
}

# What only a few tests need, and is not there for every machine: without it those tests are skipped by name.
add_to_venv() {
    if [ ! -e "$1" ] || cmp -s "$1" ".venv/$1"; then return; fi
    say "Installing $1 …"
    if .venv/bin/python -m pip install --quiet --disable-pip-version-check --only-binary :all: -r "$1"; then
        cp "$1" ".venv/$1"
    else
        say "$1 could not be installed; the tests that need it are skipped."
    fi
}

missing_for_system() {
    PATH=$PATH:/usr/sbin
    command -v curl >/dev/null 2>&1 || echo curl
    command -v openssl >/dev/null 2>&1 || echo openssl
    command -v nginx >/dev/null 2>&1 || echo nginx-light
    command -v strace >/dev/null 2>&1 || echo strace
    command -v promtool >/dev/null 2>&1 || echo prometheus
    ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || echo postgresql
    if command -v chromium-headless-shell >/dev/null 2>&1; then return; fi
    # Ubuntu has no such package, and its chromium only fetches a snap.
    if grep -qs '^ID=debian' /etc/os-release; then echo chromium-headless-shell; fi
}

missing_for_conformance() {
    command -v varnishtest >/dev/null 2>&1 || echo varnish
    command -v slowhttptest >/dev/null 2>&1 || echo slowhttptest
    command -v git >/dev/null 2>&1 || echo git
    command -v litmus >/dev/null 2>&1 || echo litmus
    command -v npm >/dev/null 2>&1 || echo npm
}

missing_for_faults() {
    PATH=$PATH:/usr/sbin
    command -v nginx >/dev/null 2>&1 || echo nginx-light
    command -v haproxy >/dev/null 2>&1 || echo haproxy
}

missing_for_bench() {
    PATH=$PATH:/usr/sbin
    missing_for_faults
    command -v wrk >/dev/null 2>&1 || echo wrk
    command -v nats-server >/dev/null 2>&1 || echo nats-server
    command -v redis-server >/dev/null 2>&1 || echo redis-server
    command -v taskset >/dev/null 2>&1 || echo util-linux
    command -v node >/dev/null 2>&1 || echo nodejs
    command -v npm >/dev/null 2>&1 || echo npm
}

# fill_own_venv NAME REQUIREMENTS: an environment beside .venv, for what would not fit into it.
fill_own_venv() {
    venv=$1
    if cmp -s "$2" "$venv/requirements.txt" && venv_works; then return; fi
    make_venv
    say "Installing $2 …"
    # Most of its modules are never imported; the others are compiled then.
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-compile -r "$2" || return
    cp "$2" "$venv/requirements.txt"
}

# fill_node NAME FOLDER: the packages of FOLDER/package.json, in NAME/node; by its lock file if there is one.
fill_node() {
    wanted=$2/package-lock.json
    [ -e "$wanted" ] || wanted=$2/package.json
    if cmp -s "$wanted" "$1/node/installed.json" || ! command -v npm >/dev/null 2>&1; then return; fi
    say "Installing $2/package.json …"
    rm -rf "$1/node"
    mkdir -p "$1/node"
    cp "$2/package.json" "$1/node"
    command=install
    if [ -e "$2/package-lock.json" ]; then
        cp "$2/package-lock.json" "$1/node"
        command=ci
    fi
    if (cd "$1/node" && npm "$command" --silent --no-audit --no-fund >&2); then
        cp "$wanted" "$1/node/installed.json"
    else
        say "Node's packages could not be installed. $loss"
    fi
}

fill_bench() {
    loss='Proxies that need them are left out.'
    install_packages bench
    fill_own_venv .venv-bench bench/requirements.txt
    fill_node .venv-bench bench
}

fill_conformance() {
    install_packages conformance
    add_to_venv requirements-conformance.txt
    applications=tests/conformance/applications
    [ -e "$applications/requirements.txt" ] || return 0
    fill_own_venv .venv-applications $applications/requirements.txt || say "Some applications could not be installed. $loss"
    fill_node .venv-applications $applications
}

install_packages() {
    missing=$("missing_for_$1")
    [ -n "$missing" ] || return 0
    if ! may_install; then
        say "Not installed here: $(echo $missing). $loss To run them too:" \
            "    sudo apt-get install $(echo $missing)"
        return 0
    fi
    apt-get update -qq || true
    for package in $missing; do
        say "Installing $package …"
        apt_install "$package" || say "$package could not be installed. $loss"
    done
}

case ${1:-} in
run) fill_venv requirements.txt ;;
dev) fill_venv requirements-dev.txt ;;
system) install_packages system ;;
conformance) fill_conformance ;;
bench) fill_bench ;;
faults)
    loss='Proxies that need them are left out.'
    install_packages faults
    ;;
*) fail "usage: tools/bootstrap.sh run|dev|system|conformance|bench|faults" ;;
esac
