{{/* Labels of every object. */}}
{{- define "platform-base.labels" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/part-of: piclusterops
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{/* Subjects of a role: its group, and the service accounts that have it. */}}
{{- define "platform-base.subjects" -}}
- apiGroup: rbac.authorization.k8s.io
  kind: Group
  name: {{ index .root.Values.rbac.groups .role | quote }}
{{- range .root.Values.rbac.accounts }}
{{- if eq .role $.role }}
- kind: ServiceAccount
  name: {{ .name }}
  namespace: {{ $.root.Values.rbac.namespace }}
{{- end }}
{{- end }}
{{- end }}
