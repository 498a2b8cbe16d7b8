{{- /* Check what the schema cannot express: values that contradict each other. */ -}}
{{- define "tickbridge.check" -}}
{{- if gt (int .Values.replicas) 1 -}}
{{- fail "replicas: must be 0 or 1, because two bridges would take the topics from each other without end; set replicas: 1" -}}
{{- end -}}
{{- if has .Values.settings.http.host (list "127.0.0.1" "::1" "localhost") -}}
{{- fail (printf "settings.http.host: the probes cannot reach %s; set it to 0.0.0.0" .Values.settings.http.host) -}}
{{- end -}}
{{- if not .Values.settings.http.port -}}
{{- fail "settings.http.port: 0 means any free port, but the probes need a fixed one; set it to 8080" -}}
{{- end -}}
{{- with .Values.settings.data_dir -}}
{{- $mounted := list -}}
{{- range $.Values.extraVolumeMounts -}}{{- $mounted = append $mounted .mountPath -}}{{- end -}}
{{- if not (or $.Values.persistence.enabled (has . $mounted)) -}}
{{- fail (printf "settings.data_dir: no volume is mounted at %s, and the file system is read-only; set persistence.enabled, or mount a volume there" .) -}}
{{- end -}}
{{- end -}}
{{- if and .Values.settings.spill_max_bytes (not (or .Values.persistence.enabled .Values.settings.data_dir)) -}}
{{- fail "settings.spill_max_bytes: has no effect without a data directory; set persistence.enabled, or remove it" -}}
{{- end -}}
{{- range .Values.extraEnv -}}
{{- if hasPrefix "TICKBRIDGE_HTTP__" .name -}}
{{- fail (printf "extraEnv: %s would override settings.http, which ports and probes use; set it there" .name) -}}
{{- end -}}
{{- end -}}
{{- range $name := list "kafka.password" "kafka.key_password" "redis.password" -}}
{{- $parts := splitList "." $name -}}
{{- if dig (first $parts) (last $parts) "" (deepCopy $.Values.settings) -}}
{{- fail (printf "settings.%s: would be readable in a ConfigMap; put it into a Secret, and name the Secret under secrets.%s" $name $name) -}}
{{- end -}}
{{- end -}}
{{- range $name := list "redis.url" "binance.proxy" -}}
{{- $parts := splitList "." $name -}}
{{- if contains "@" (dig (first $parts) (last $parts) "" (deepCopy $.Values.settings)) -}}
{{- fail (printf "settings.%s: contains a user and would be readable in a ConfigMap; put the whole URL into a Secret, and name the Secret under secrets.%s" $name $name) -}}
{{- end -}}
{{- end -}}
{{- end -}}
