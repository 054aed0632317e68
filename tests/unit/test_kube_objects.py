"""Namespaces, Secrets and differences, as kubectl tells of them."""

from __future__ import annotations

import pytest

from piclusterops.kube_commands import operated
from piclusterops.kube_diff import shown
from piclusterops.kube_objects import SecretState, parse

DIFF = """\
diff -u -N /tmp/LIVE-1/v1.ConfigMap.demo.settings /tmp/MERGED-2/v1.ConfigMap.demo.settings
--- /tmp/LIVE-1/v1.ConfigMap.demo.settings\t2026-11-23 19:00:00.0 +0000
+++ /tmp/MERGED-2/v1.ConfigMap.demo.settings\t2026-11-23 19:00:00.0 +0000
@@ -1,6 +1,6 @@
 apiVersion: v1
 data:
-  colour: red
+  colour: blue
 kind: ConfigMap
diff -u -N /tmp/LIVE-1/apps.v1.Deployment.demo.web.example /tmp/MERGED-2/apps.v1.Deployment.demo.web.example
@@ -1,3 +1,3 @@
 metadata:
-  generation: 1
+  generation: 2
   name: web.example
diff -u -N /tmp/LIVE-1/v1.Namespace..demo /tmp/MERGED-2/v1.Namespace..demo
@@ -0,0 +1,2 @@
+kind: Namespace
\\ No newline at end of file
"""


def test_a_difference_is_shown_by_object_without_temporary_files() -> None:
    assert shown(DIFF.splitlines()) == [
        "ConfigMap demo/settings",
        "   apiVersion: v1",
        "   data:",
        "  -  colour: red",
        "  +  colour: blue",
        "   kind: ConfigMap",
        "Namespace demo",
        "  +kind: Namespace",
    ]


def test_bookkeeping_of_the_api_is_no_difference() -> None:
    lines = ["diff -u -N /a/v1.Service.x.y /b/v1.Service.x.y", '-  resourceVersion: "1"', '+  resourceVersion: "2"']
    assert shown(lines) == []


RECORD = """\
diff -u -N /tmp/LIVE-1/v1.Namespace..painted /tmp/MERGED-2/v1.Namespace..painted
 kind: Namespace
 metadata:
+  managedFields:
+  - apiVersion: v1
+    fieldsType: FieldsV1
+    fieldsV1:
+      f:status:
+        f:phase: {}
+    manager: before-first-apply
   name: painted
diff -u -N /tmp/LIVE-1/v1.ConfigMap.painted.c /tmp/MERGED-2/v1.ConfigMap.painted.c
@@ -9,3 +9,3 @@
       f:data:
-        f:colour: {}
+        f:shade: {}
"""


def test_the_record_of_who_owns_which_field_is_no_difference() -> None:
    assert shown(RECORD.splitlines()) == []


def test_secrets_and_namespaces_with_what_we_left_on_them() -> None:
    objects = parse(["@@namespaces", "a|Active", "@@secrets", "a|s|Opaque|m", "a|t|kubernetes.io/tls|"])
    assert objects.namespaces == {"a": "Active"}
    assert objects.secrets == {("a", "s"): SecretState("Opaque", "m"), ("a", "t"): SecretState("kubernetes.io/tls")}


def test_an_answer_of_another_form_is_an_error() -> None:
    for output in (["sh: not found"], ["@@secrets", "only|two"]):
        with pytest.raises(ValueError):
            parse(output)


@pytest.mark.parametrize(
    ("item", "expected"),
    [
        (
            {"apiVersion": "postgresql.cnpg.io/v1", "kind": "Cluster", "metadata": {"name": "postgres"}},
            ("Cluster.postgresql.cnpg.io", "postgres", "Ready"),
        ),
        ({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}}, None),
        ({"apiVersion": "other.example/v1", "kind": "Cluster", "metadata": {"name": "x"}}, None),
        ({}, None),
    ],
)
def test_objects_that_operators_work_on(item: dict[str, object], expected: tuple[str, str, str] | None) -> None:
    assert operated(item) == expected
