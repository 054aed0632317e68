"""Adds API versions to the Kubernetes 1.20 source that current clients ask for, as copies of the newest beta form.

Usage: copy_apis.py SOURCE, where SOURCE is the unpacked tree. ``source.patch`` then makes the API server serve them.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

#: API group, the version it has, the version it gets: the stable ones differ from these betas in little.
COPIES = (("policy", "v1beta1", "v1"), ("autoscaling", "v2beta2", "v2"), ("discovery", "v1beta1", "v1"))
#: Kinds of batch/v1beta1 that go into batch/v1, which exists already.
CRONJOB_KINDS = ("CronJob", "CronJobList", "CronJobSpec", "CronJobStatus", "JobTemplateSpec")
_LIFECYCLE = re.compile(r"^// \+k8s:prerelease-lifecycle-gen[:=].*\n", re.MULTILINE)
_API = Path("staging/src/k8s.io/api")
_PROTOBUF_HEAD = """package v1

import (
	fmt "fmt"
	io "io"
	math "math"
	reflect "reflect"
	strings "strings"

	proto "github.com/gogo/protobuf/proto"
	v11 "k8s.io/api/core/v1"
	v1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

var _ = math.Inf
var _ = reflect.TypeOf

func init() {
"""
_DEEPCOPY_HEAD = """package v1

import (
	corev1 "k8s.io/api/core/v1"
	runtime "k8s.io/apimachinery/pkg/runtime"
)

"""
_TYPES_HEAD = """package v1

import (
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)
"""
_DEFAULTS_HEAD = """package v1

import (
	batchv1 "k8s.io/api/batch/v1"
)

"""


def copy_version(folder: Path, old: str, new: str) -> None:
    """Copy the Go package `folder`/`old` to `folder`/`new` under its new name; tests are left out."""
    group = folder.name
    (folder / new).mkdir()
    for file in sorted((folder / old).glob("*.go")):
        if file.name.endswith("_test.go") or "prerelease" in file.name:
            continue
        text = re.sub(rf"^package {old}\b", f"package {new}", file.read_text(), flags=re.MULTILINE)
        for pattern in ("k8s.io/api/{}/{}", 'kubernetes/pkg/apis/{}/{}"', "k8s.io.api.{}.{}."):
            text = text.replace(pattern.format(group, old), pattern.format(group, new))
        text = text.replace(f'Version: "{old}"', f'Version: "{new}"')
        (folder / new / file.name).write_text(_LIFECYCLE.sub("", text))


def declarations(source: str) -> list[str]:
    """The top-level declarations of gofmt-ed Go code, each with the comment lines right above it."""
    found, lines, number = [], source.split("\n"), 0
    while number < len(lines):
        if re.match(r"(func|var|const|type)\b", lines[number]):
            first = last = number
            while first and lines[first - 1].startswith("//"):
                first -= 1
            if lines[number].rstrip().endswith(("{", "(")):
                while not re.match(r"[)}]", lines[last]):
                    last += 1
            found.append("\n".join(lines[first : last + 1]))
            number = last
        number += 1
    return found


def _about_cronjobs(source: str, pattern: str) -> str:
    wanted = re.compile(pattern.format("|".join(CRONJOB_KINDS)), re.MULTILINE)
    kept = [text for text in declarations(source) if wanted.search(text)]
    if not kept:
        raise SystemExit(f"copy_apis.py: nothing matches {wanted.pattern}: is this Kubernetes 1.20?")
    return "\n\n".join(kept) + "\n"


def copy_cronjob(tree: Path) -> None:
    """Give batch/v1 the CronJob of batch/v1beta1: types, protobuf, deep copies, defaults."""
    beta, stable = tree / _API / "batch/v1beta1", tree / _API / "batch/v1"
    source = (beta / "types.go").read_text()
    licence = source[: source.index("package v1beta1")]
    types = _LIFECYCLE.sub("", source[source.index(")\n", source.index("import (")) + 2 :])
    # JobTemplate, the first type, has no v1 form
    start, end = types.index("// +k8s:deepcopy-gen:interfaces"), types.index("// JobTemplateSpec describes")
    types = (types[:start] + types[end:]).replace("batchv1.JobSpec", "JobSpec")
    (stable / "types_cronjob.go").write_text(licence + _TYPES_HEAD + types)

    methods = r"^func \((?:m |this )?\*(?:{0})\) (?!Descriptor)|^var xxx_messageInfo_(?:{0}) "
    protobuf = _about_cronjobs((beta / "generated.pb.go").read_text(), methods)
    register = "".join(f'\tproto.RegisterType((*{k})(nil), "k8s.io.api.batch.v1.{k}")\n' for k in CRONJOB_KINDS)
    (stable / "generated_cronjob.pb.go").write_text(licence + _PROTOBUF_HEAD + register + "}\n\n" + protobuf)

    copies = _about_cronjobs((beta / "zz_generated.deepcopy.go").read_text(), r"^func \(in \*(?:{})\) ")
    copies = re.sub(r"\b(?:core)?v1\.ObjectReference", "corev1.ObjectReference", copies)
    (stable / "zz_generated_cronjob.deepcopy.go").write_text(licence + _DEEPCOPY_HEAD + copies)

    defaults = (tree / "pkg/apis/batch/v1beta1/defaults.go").read_text()
    defaults = defaults[defaults.index("func SetDefaults_CronJob") :].replace("batchv1beta1.", "batchv1.")
    (tree / "pkg/apis/batch/v1/defaults_cronjob.go").write_text(licence + _DEFAULTS_HEAD + defaults)


def main() -> None:
    tree = Path(sys.argv[1])
    for group, old, new in COPIES:
        copy_version(tree / _API / group, old, new)
        copy_version(tree / "pkg/apis" / group, old, new)
    copy_cronjob(tree)


if __name__ == "__main__":
    main()
