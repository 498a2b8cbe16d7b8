{{- /* What the schema cannot say: values that contradict each other, and why. */ -}}
{{- define "tickbridge.check" -}}
{{- if gt (int .Values.replicas) 1 -}}
{{- fail "replicas: more than 1 is refused: two bridges with the same topics would publish every event twice, and the record would no longer be exactly once" -}}
{{- end -}}
{{- if has .Values.settings.http.host (list "127.0.0.1" "::1" "localhost") -}}
{{- fail (printf "settings.http.host: %s is not to be reached by the probes; say 0.0.0.0" .Values.settings.http.host) -}}
{{- end -}}
{{- if not .Values.settings.http.port -}}
{{- fail "settings.http.port: 0 takes any free port, and the probes need a certain one; say 8080" -}}
{{- end -}}
{{- with .Values.settings.data_dir -}}
{{- $mounted := list -}}
{{- range $.Values.extraVolumeMounts -}}{{- $mounted = append $mounted .mountPath -}}{{- end -}}
{{- if not (or $.Values.persistence.enabled (has . $mounted)) -}}
{{- fail (printf "settings.data_dir: nothing is mounted at %s, and the file system is read-only; set persistence.enabled, or mount a volume there" .) -}}
{{- end -}}
{{- end -}}
{{- if and .Values.settings.spill_max_bytes (not (or .Values.persistence.enabled .Values.settings.data_dir)) -}}
{{- fail "settings.spill_max_bytes: has no use without a place for data; set persistence.enabled, or remove it" -}}
{{- end -}}
{{- range .Values.extraEnv -}}
{{- if hasPrefix "TICKBRIDGE_HTTP__" .name -}}
{{- fail (printf "extraEnv: %s would go before settings.http, which ports and probes follow; set it there" .name) -}}
{{- end -}}
{{- end -}}
{{- range $name := list "kafka.password" "kafka.key_password" "redis.password" -}}
{{- $parts := splitList "." $name -}}
{{- if dig (first $parts) (last $parts) "" (deepCopy $.Values.settings) -}}
{{- fail (printf "settings.%s: would stand in a ConfigMap for everybody to read; put it into a Secret, and name that under secrets.%s" $name $name) -}}
{{- end -}}
{{- end -}}
{{- range $name := list "redis.url" "binance.proxy" -}}
{{- $parts := splitList "." $name -}}
{{- if contains "@" (dig (first $parts) (last $parts) "" (deepCopy $.Values.settings)) -}}
{{- fail (printf "settings.%s: has a user in it, and would stand in a ConfigMap for everybody to read; put the whole URL into a Secret, and name that under secrets.%s" $name $name) -}}
{{- end -}}
{{- end -}}
{{- end -}}
