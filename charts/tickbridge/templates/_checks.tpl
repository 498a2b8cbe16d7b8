{{- /* Check what the schema cannot express: values that contradict each other. */ -}}
{{- define "tickbridge.check" -}}
{{- include "tickbridge.checkGroup" . -}}
{{- include "tickbridge.checkHttp" . -}}
{{- include "tickbridge.checkDisk" . -}}
{{- include "tickbridge.checkMemory" . -}}
{{- include "tickbridge.checkSecrets" . -}}
{{- end -}}

{{- define "tickbridge.checkGroup" -}}
{{- $many := or .Values.autoscaling.enabled (gt (int .Values.replicas) 1) -}}
{{- if and $many (not (include "tickbridge.isGroup" .)) -}}
{{- fail "replicas: must be 0 or 1, because two bridges that are no group would take the topics from each other without end; set settings.cluster.standby: 1, or settings.cluster.shards" -}}
{{- end -}}
{{- if dig "cluster" "instance_id" "" (deepCopy .Values.settings) -}}
{{- fail "settings.cluster.instance_id: all bridges would have the same name; remove it: the chart gives each the name of its pod" -}}
{{- end -}}
{{- if and (include "tickbridge.isGroup" .) .Values.persistence.existingClaim -}}
{{- fail "persistence.existingClaim: the bridges of a group cannot share a claim; remove it: the chart creates one for each" -}}
{{- end -}}
{{- end -}}

{{- define "tickbridge.checkHttp" -}}
{{- if has .Values.settings.http.host (list "127.0.0.1" "::1" "localhost") -}}
{{- fail (printf "settings.http.host: the probes cannot reach %s; set it to 0.0.0.0" .Values.settings.http.host) -}}
{{- end -}}
{{- if not .Values.settings.http.port -}}
{{- fail "settings.http.port: 0 means any free port, but the probes need a fixed one; set it to 8080" -}}
{{- end -}}
{{- range .Values.extraEnv -}}
{{- if hasPrefix "TICKBRIDGE_HTTP__" .name -}}
{{- fail (printf "extraEnv: %s would override settings.http, which ports and probes use; set it there" .name) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "tickbridge.checkDisk" -}}
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
{{- if and .Values.persistence.enabled (not .Values.persistence.existingClaim) -}}
{{- $claim := include "tickbridge.bytes" .Values.persistence.size | int64 -}}
{{- $spill := include "tickbridge.spillBytes" . | int64 -}}
{{- if and $claim (gt $spill $claim) -}}
{{- fail (printf "settings.spill_max_bytes: %v (%d bytes) do not fit in persistence.size, %s (%d bytes); increase the size, or remove spill_max_bytes: then it is 80 %% of the size" .Values.settings.spill_max_bytes $spill .Values.persistence.size $claim) -}}
{{- end -}}
{{- if and $claim (lt $spill 67108864) -}}
{{- fail (printf "persistence.size: 80 %% of %s is less than the 64MiB that spill_max_bytes must have; set it to 80Mi or more" .Values.persistence.size) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "tickbridge.checkMemory" -}}
{{- $least := include "tickbridge.leastMemoryBytes" . | int64 -}}
{{- with dig "limits" "memory" "" .Values.resources -}}
{{- $limit := include "tickbridge.bytes" . | int64 -}}
{{- if and $limit (lt $limit $least) -}}
{{- fail (printf "resources.limits.memory: %v cannot hold a full outbox of %s (settings.kafka.outbox_max_bytes) and the 80Mi of the bridge itself; set at least %s, or remove it: then it follows from the outbox" . (include "tickbridge.outboxBytes" $ | include "tickbridge.mebibytes") (include "tickbridge.mebibytes" $least)) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- /* The time to end, which is longer than the bridge may take to deliver what is waiting. */ -}}
{{- define "tickbridge.gracePeriodSeconds" -}}
{{- $shutdown := .Values.settings.shutdown_timeout_s | default 20 | ceil -}}
{{- with .Values.terminationGracePeriodSeconds -}}
{{- if lt (float64 .) $shutdown -}}
{{- fail (printf "terminationGracePeriodSeconds: %v is less than settings.shutdown_timeout_s (%v), the time to deliver waiting events; increase it, or remove it: then it is 10 s longer" . $shutdown) -}}
{{- end -}}
{{- . -}}
{{- else -}}
{{- add $shutdown 10 -}}
{{- end -}}
{{- end -}}

{{- define "tickbridge.checkSecrets" -}}
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
