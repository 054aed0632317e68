"""What the checks before a deployment want to know of a host, in one SSH execution that changes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from shlex import quote

from pyinfra.api import FactBase
from pyinfra.api.exceptions import FactProcessError

from piclusterops.capacity import STORED_PROBE
from piclusterops.check_platform import HELD_PROBE, answers_probe
from piclusterops.facts.node import CLOCK_IS_SYNCHRONISED, node_query
from piclusterops.facts.snapshot import Query, parse, script
from piclusterops.host_releases import HOST_RELEASES, KERNEL_MODULES, is_selected
from piclusterops.host_report import CONTAINER_ENGINES, REPORT_MARK, Report
from piclusterops.k3s_config import BINARY
from piclusterops.preflight import PROBE
from piclusterops.settings import ClusterSettings

#: Bounds of what may take long, in seconds.
FSYNC_S, PEER_S, NAME_S = 2, 2, 3
FSYNC_WRITES = 100

# `name=value` of every tool that is there and succeeds; a missing line means that nobody knows.
_SAY = 'say() { k=$1; shift; command -v "$1" >/dev/null && v=$("$@") && printf "%s=%s\\n" "$k" "$v" | head -n 1; }\n'
# The directory that K3s' data is in, or will be.
_DATA_DIR = 'd=/var/lib/rancher/k3s; while [ ! -d "$d" ]; do d=$(dirname "$d"); done; d=$(readlink -f "$d")\n'

# Listing a table with the legacy iptables loads it into the kernel, so it is asked only when it is there already;
# iptables-nft makes nothing by listing (tried with 1.8.9 in a network namespace).
_SYSTEM = (
    _SAY
    + """say kernel uname -r
say page_size getconf PAGESIZE
say userland dpkg --print-architecture
say machine_id cat /etc/machine-id
say default_route ip -4 route show default
say iptables iptables --version
[ -r /proc/net/ip_tables_names ] && say legacy_tables cat /proc/net/ip_tables_names
case $(iptables --version) in
    *nf_tables*) say forward iptables -S FORWARD ;;
    *) grep -qx filter /proc/net/ip_tables_names && say forward iptables -S FORWARD ;;
esac
say throttled vcgencmd get_throttled
say temperature vcgencmd measure_temp || say thermal_zone cat /sys/class/thermal/thermal_zone0/temp
for f in /proc/device-tree/model /sys/firmware/devicetree/base/model; do
    [ -r "$f" ] && { printf 'model=%s\\n' "$(tr -d '\\000' <"$f")"; break; }
done
"""
    + f"{CLOCK_IS_SYNCHRONISED} && echo synchronised=yes || echo synchronised=no"
)

_DISK = (
    _SAY
    + _DATA_DIR
    + """say mount findmnt -n -v -o SOURCE,FSTYPE,OPTIONS -T "$d"
s=$(findmnt -n -v -o SOURCE -T "$d")
[ -b "$s" ] && k=$(lsblk -nrso NAME,TYPE "$s" | awk '$2 == "disk" { print $1; exit }') && [ -n "$k" ] && {
    printf 'disk=%s\\n' "$k"
    [ -r "/sys/block/$k/device/type" ] && say card cat "/sys/block/$k/device/type"
}"""
)

# Appending writes with O_DSYNC, as a write-ahead log makes them, each timed by dd itself.
_FSYNC = (
    _DATA_DIR
    + f"""(
    umask 077
    t=$(mktemp "$d/.piclusterops-check.XXXXXX") || exit 0
    trap 'rm -f "$t"' EXIT
    trap 'exit 1' HUP INT PIPE TERM
    timeout {FSYNC_S} sh -c 'i=0; while [ $i -lt {FSYNC_WRITES} ]; do
        dd if=/dev/zero of="$0" bs=4096 count=1 oflag=append,dsync conv=notrunc 2>&1 || exit; i=$((i + 1)); done' "$t" |
        sed -n 's/^4096 bytes.* copied, \\([0-9.e-]*\\) s,.*/\\1/p'
)"""
)

_PORTS = """command -v ss >/dev/null && o=$(ss -H -lntup) && {
    printf '%s\\n' "$o"
    for p in $(printf '%s\\n' "$o" | grep -o 'pid=[0-9]*' | sort -u | cut -d= -f2); do
        u=$(sed -n 's#.*/\\([^/]*\\.service\\).*#\\1#p' "/proc/$p/cgroup" | head -n 1)
        [ -n "$u" ] && echo "unit $p $u"
    done
}"""

# wg-quick takes the daemon wireguard-go where the kernel has no WireGuard.
_INSTEAD = {"wireguard": "wireguard-go"}


def _modules_shell(settings: ClusterSettings) -> str:
    """Shell that prints which of the modules that selected releases need the kernel does not have."""
    wanted = [
        module for name in HOST_RELEASES if is_selected(settings, name) for module in KERNEL_MODULES.get(name, ())
    ]
    return "\n".join(
        f"[ -e /sys/module/{module} ] || modprobe -nq {module} || "
        f"command -v {_INSTEAD.get(module, module)} >/dev/null || echo {module}"
        for module in wanted
    )


def _names_shell(names: Sequence[str]) -> str:
    """Shell that asks the host's resolver for names, all at once; its own name first."""
    return (
        f'for n in "$(uname -n)" {" ".join(map(quote, names))}; do {{ '
        f"a=$(timeout {NAME_S} getent ahostsv4 \"$n\" | cut -d' ' -f1 | sort -u | tr '\\n' ' '); "
        'printf "%s %s\\n" "$n" "$a"; } & done; wait'
    )


def _peers_shell(peers: Sequence[str]) -> str:
    """Shell that tries TCP to each `address:port`, all at once; bash is essential in Debian, netcat is not."""
    return (
        f"command -v bash >/dev/null && {{ for p in {' '.join(map(quote, peers))}; do {{ "
        f'e=$(timeout {PEER_S} bash -c \'exec 3<>"/dev/tcp/${{0%:*}}/${{0##*:}}"\' "$p" 2>&1); r=$?; '
        'case "$r $e" in 0*) s=open ;; 124*) s=silent ;; *refused*) s=refused ;; *) s=unreachable ;; esac; '
        'echo "$p $s"; } & done; wait; }'
    )


def check_query(settings: ClusterSettings, names: Sequence[str], peers: Sequence[str]) -> Query:
    """What the checks read of a host.

    Args:
        settings: of the cluster.
        names: what the host's resolver is asked for.
        peers: ``address:port`` of the other nodes that the host tries to reach.
    """
    of_node = dict(node_query(settings).probes)
    probes = [(name, of_node[name]) for name in ("boot_id", "cgroup_controllers", "running_cmdline", "cmdline")]
    probes += [
        ("hostname", "uname -n"),
        ("system", _SYSTEM),
        ("disk", _DISK),
        ("fsync", _FSYNC),
        ("ports", _PORTS),
        ("swaps", "tail -n +2 /proc/swaps"),
        ("nameservers", "sed -n 's/^nameserver  *//p' /etc/resolv.conf"),
        ("names", _names_shell(names)),
        ("preflight", PROBE),
    ]
    if peers:
        probes.append(("peers", _peers_shell(peers)))
    if modules := _modules_shell(settings):
        probes.append(("kernel_modules", modules))
    if settings.platform_profile != "none":
        probes.append(("stored", STORED_PROBE))
    if answers := answers_probe(settings):
        probes += [("held", HELD_PROBE), ("answers", answers)]
    return Query(
        paths=(BINARY, "/boot/firmware/config.txt", "/boot/config.txt"),
        packages=CONTAINER_ENGINES,
        units=("k3s", "k3s-agent", "docker"),
        probes=tuple(probes),
    )


def check_script(query: Query) -> str:
    """The shell for a host: as root when sudo lets us without a password, else what the login user may see.

    The host's clock is read first and last, so that the controller can account for the way there and back.
    """
    inner = quote(f"PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin; export PATH LC_ALL=C\n{script(query)}")
    return (
        f'echo "{REPORT_MARK}begin $(date +%s.%N)"; s={inner}\n'
        f'if [ "$(id -u)" -eq 0 ]; then echo "{REPORT_MARK}sudo root"; sh -c "$s"\n'
        f'elif e=$(LC_ALL=C sudo -n sh -c true 2>&1); then echo "{REPORT_MARK}sudo yes"; sudo -n sh -c "$s"\n'
        f'else printf "%s\\n" "{REPORT_MARK}sudo no $(printf %s "$e" | tail -n 1)"; sh -c "$s"; fi\n'
        f'echo "{REPORT_MARK}end $(date +%s.%N)"'
    )


class HostCheck(FactBase[Report | None]):
    """The answer to a query of `check_query`; None when it could not be read. To be asked without ``_sudo``."""

    def command(self, query: Query) -> str:
        return check_script(query)

    def process(self, output: list[str]) -> Report:
        marked = [line.removeprefix(REPORT_MARK).split(" ", 1) for line in output if line.startswith(REPORT_MARK)]
        words = {words[0]: words[-1] for words in marked}
        try:
            snapshot = parse([line for line in output if not line.startswith(REPORT_MARK)])
            return Report(snapshot, words["sudo"], float(words["begin"]), float(words["end"]))
        except (KeyError, ValueError) as error:
            raise FactProcessError(f"unexpected output of the checks: {error}") from error
