{{/* Properties as Hadoop reads them. */}}
{{- define "hive-metastore.configuration" -}}
<?xml version="1.0" encoding="UTF-8" standalone="no"?>
<configuration>
{{- range $name, $value := . }}
  <property><name>{{ $name | html }}</name><value>{{ $value | html }}</value></property>
{{- end }}
</configuration>
{{- end }}
