{{/* The pipeline; user and password come from variables, the one place besides its own key store where it looks. */}}
{{- define "logstash.pipeline" -}}
input {
  http {
    port => 8080
    # else it adds an agent, a host and an URL to every event: those of Fluentd's request
    ecs_compatibility => "disabled"
    remote_host_target_field => "[@metadata][client]"
    request_headers_target_field => "[@metadata][headers]"
  }
}

filter {
  # the line is called otherwise by Fluentd
  if [log] and ![message] {
    mutate { rename => { "log" => "message" } }
  }
  # a label "app" beside "app.kubernetes.io/name" would be a text and a group of fields at the same time
  ruby {
    code => "
      labels = event.get('[kubernetes][labels]')
      event.set('[kubernetes][labels]', labels.transform_keys { |key| key.tr('./', '__') }) if labels.is_a?(Hash)
    "
  }
  mutate { remove_field => ["logtag"] }
  {{- with .Values.filters }}
  {{- . | trim | nindent 2 }}
  {{- end }}
}

output {
  {{- if eq .Values.search.kind "elasticsearch" }}
  elasticsearch {
    hosts => ["{{ .Values.search.url }}"]
    index => "{{ .Values.search.index }}-%{+YYYY.MM.dd}"
    # the user may add to indices, and change nothing in them
    action => "create"
    user => "${SEARCH_USER}"
    password => "${SEARCH_PASSWORD}"
    # templates and policies belong to who looks after the store
    manage_template => false
    ilm_enabled => false
    data_stream => false
    compression_level => 1
    {{- if .Values.search.caSecret }}
    ssl_certificate_authorities => ["/etc/logstash/ca/ca.crt"]
    {{- end }}
  }
  {{- else }}
  http {
    url => "{{ .Values.search.url }}/{{ .Values.search.index }}-%{+YYYY.MM.dd}/_doc"
    http_method => "post"
    format => "json"
    user => "${SEARCH_USER}"
    password => "${SEARCH_PASSWORD}"
    pool_max => 20
    pool_max_per_route => 20
    retry_failed => true
    retryable_codes => [429, 500, 502, 503, 504]
    {{- if .Values.search.caSecret }}
    ssl_certificate_authorities => ["/etc/logstash/ca/ca.crt"]
    {{- end }}
  }
  {{- end }}
}
{{- end }}
