{{- define "driftline.name" -}}
{{- if contains .Chart.Name .Release.Name }}{{ .Release.Name }}{{ else }}{{ .Release.Name }}-{{ .Chart.Name }}{{ end }}
{{- end }}

{{/* Labels that select; a list of the root and the component. */}}
{{- define "driftline.selector" -}}
{{- $root := index . 0 -}}
app.kubernetes.io/name: driftline
app.kubernetes.io/instance: {{ $root.Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{- define "driftline.labels" -}}
{{- $root := index . 0 -}}
{{ include "driftline.selector" . }}
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
helm.sh/chart: {{ $root.Chart.Name }}-{{ $root.Chart.Version }}
{{- end }}

{{/* Whether replicas are somebody else's business. */}}
{{- define "driftline.scaled" -}}
{{- if or (dig "hpa" "enabled" false .) (dig "keda" "enabled" false .) }}true{{ end }}
{{- end }}

{{- define "driftline.kafkaTls" -}}
{{- if has .Values.kafka.securityProtocol (list "SSL" "SASL_SSL") }}true{{ end }}
{{- end }}

{{/* Everything that would render and then not work is refused here, with what to do. */}}
{{- define "driftline.check" -}}
{{- $v := .Values -}}
{{- if not $v.kafka.bootstrapServers }}{{ fail "kafka.bootstrapServers: say where Kafka is, as host:port" }}{{ end }}
{{- if not $v.clickhouse.url }}{{ fail "clickhouse.url: say where ClickHouse is, as http(s)://host:port" }}{{ end }}
{{- if not $v.existingSecret }}{{ fail "existingSecret: name a Secret with redaction-key, clickhouse-password and tokens.json; see values.yaml" }}{{ end }}
{{- if and (hasPrefix "SASL" $v.kafka.securityProtocol) (not $v.kafka.sasl.mechanism) }}{{ fail "kafka.securityProtocol asks for a login: set kafka.sasl.mechanism, and put kafka-username and kafka-password into the Secret" }}{{ end }}
{{- range $name := list "receiver" "worker" "evaluator" }}
{{- $part := index $v $name }}
{{- if and $part.enabled (not $part.args) }}{{ fail (printf "%s.args: say which command of driftline it runs" $name) }}{{ end }}
{{- if and $part.enabled $part.keda.enabled (gt (int $part.keda.maxReplicas) (int $v.kafka.partitions)) }}{{ fail (printf "%s.keda.maxReplicas is %d, but kafka.partitions is %d: more than one per partition would idle" $name (int $part.keda.maxReplicas) (int $v.kafka.partitions)) }}{{ end }}
{{- end }}
{{- if and $v.worker.enabled (not $v.worker.keda.enabled) (gt (int $v.worker.replicas) (int $v.kafka.partitions)) }}{{ fail (printf "worker.replicas is %d, but kafka.partitions is %d: more than one per partition would idle" (int $v.worker.replicas) (int $v.kafka.partitions)) }}{{ end }}
{{- end }}

{{/* Settings of every process as environment variables; secrets by reference. */}}
{{- define "driftline.env" -}}
{{- $v := .Values -}}
{{- $secret := $v.existingSecret -}}
- {name: DRIFTLINE_KAFKA_BOOTSTRAP_SERVERS, value: {{ $v.kafka.bootstrapServers | quote }}}
- {name: DRIFTLINE_KAFKA_PARTITIONS, value: {{ $v.kafka.partitions | quote }}}
- {name: DRIFTLINE_KAFKA_REPLICATION, value: {{ $v.kafka.replication | quote }}}
- {name: DRIFTLINE_KAFKA_RETENTION_HOURS, value: {{ $v.kafka.retentionHours | quote }}}
- {name: DRIFTLINE_KAFKA_SECURITY_PROTOCOL, value: {{ $v.kafka.securityProtocol }}}
{{- with $v.kafka.sasl.mechanism }}
- {name: DRIFTLINE_KAFKA_SASL_MECHANISM, value: {{ . }}}
- name: DRIFTLINE_KAFKA_SASL_USERNAME
  valueFrom: {secretKeyRef: {name: {{ $secret }}, key: kafka-username}}
- name: DRIFTLINE_KAFKA_SASL_PASSWORD
  valueFrom: {secretKeyRef: {name: {{ $secret }}, key: kafka-password}}
{{- end }}
{{- if $v.kafka.ca }}
- {name: DRIFTLINE_KAFKA_SSL_CAFILE, value: /etc/driftline/kafka-ca.crt}
{{- end }}
- {name: DRIFTLINE_CLICKHOUSE_URL, value: {{ $v.clickhouse.url | quote }}}
- {name: DRIFTLINE_CLICKHOUSE_USER, value: {{ $v.clickhouse.user | quote }}}
- {name: DRIFTLINE_CLICKHOUSE_DATABASE, value: {{ $v.clickhouse.database | quote }}}
{{- if $v.clickhouse.password }}
- name: DRIFTLINE_CLICKHOUSE_PASSWORD
  valueFrom: {secretKeyRef: {name: {{ $secret }}, key: clickhouse-password}}
{{- end }}
{{- if $v.clickhouse.ca }}
- {name: DRIFTLINE_CLICKHOUSE_CA_FILE, value: /etc/driftline/clickhouse-ca.crt}
{{- end }}
- name: DRIFTLINE_REDACTION_KEY
  valueFrom: {secretKeyRef: {name: {{ $secret }}, key: redaction-key}}
{{- range $section, $settings := $v.settings }}
{{- range $name, $value := $settings }}
- {name: DRIFTLINE_{{ upper $section }}_{{ upper $name }}, value: {{ kindIs "string" $value | ternary $value (toJson $value) | quote }}}
{{- end }}
{{- end }}
{{- end }}

{{/* The pod of one component: root, name, port of its probes, their scheme. */}}
{{- define "driftline.pod" -}}
{{- $root := index . 0 -}}
{{- $name := index . 1 -}}
{{- $v := $root.Values -}}
{{- $part := index $v $name -}}
{{- $gateway := eq $name "gateway" -}}
{{- $port := $gateway | ternary "http" "health" -}}
{{- $files := list -}}
{{- if $gateway }}{{ $files = append $files "tokens.json" }}{{ end -}}
{{- if and $gateway $part.tls }}{{ $files = concat $files (list "gateway-tls.crt" "gateway-tls.key") }}{{ end -}}
{{- if $v.kafka.ca }}{{ $files = append $files "kafka-ca.crt" }}{{ end -}}
{{- if $v.clickhouse.ca }}{{ $files = append $files "clickhouse-ca.crt" }}{{ end -}}
{{- $scheme := (and $gateway $part.tls) | ternary "HTTPS" "HTTP" -}}
metadata:
  labels:
    {{- include "driftline.labels" (list $root $name) | nindent 4 }}
    {{- with $v.podLabels }}{{ toYaml . | nindent 4 }}{{ end }}
  {{- with $v.podAnnotations }}
  annotations: {{ toYaml . | nindent 4 }}
  {{- end }}
spec:
  automountServiceAccountToken: false
  enableServiceLinks: false
  {{- with $v.image.pullSecrets }}
  imagePullSecrets: {{ toYaml . | nindent 4 }}
  {{- end }}
  {{- with $v.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  terminationGracePeriodSeconds: {{ $v.terminationGracePeriodSeconds }}
  securityContext: {runAsNonRoot: true, runAsUser: 10001, runAsGroup: 10001, fsGroup: 10001, seccompProfile: {type: RuntimeDefault}}
  {{- with $v.nodeSelector }}
  nodeSelector: {{ toYaml . | nindent 4 }}
  {{- end }}
  {{- with $v.tolerations }}
  tolerations: {{ toYaml . | nindent 4 }}
  {{- end }}
  {{- if and $v.topologySpread.enabled (ne $name "migrate") }}
  topologySpreadConstraints:
    {{- range $key, $when := dict $v.topologySpread.topologyKey "ScheduleAnyway" "kubernetes.io/hostname" "ScheduleAnyway" }}
    - maxSkew: 1
      topologyKey: {{ $key }}
      whenUnsatisfiable: {{ $when }}
      labelSelector:
        matchLabels: {{ include "driftline.selector" (list $root $name) | nindent 10 }}
    {{- end }}
  {{- end }}
  {{- if eq $name "migrate" }}
  restartPolicy: Never
  {{- end }}
  containers:
    - name: {{ $name }}
      image: "{{ $v.image.repository }}:{{ $v.image.tag | default $root.Chart.AppVersion }}-{{ eq $name "migrate" | ternary "worker" $name }}"
      imagePullPolicy: {{ $v.image.pullPolicy }}
      args: {{ $part.args | default (list "migrate") | toJson }}
      securityContext: {allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: {drop: [ALL]}}
      env:
        {{- include "driftline.env" $root | nindent 8 }}
        {{- if $gateway }}
        - {name: DRIFTLINE_GATEWAY_PORT, value: "4318"}
        - {name: DRIFTLINE_GATEWAY_TOKENS_FILE, value: /etc/driftline/tokens.json}
        {{- if $part.tls }}
        - {name: DRIFTLINE_GATEWAY_TLS_CERTFILE, value: /etc/driftline/gateway-tls.crt}
        - {name: DRIFTLINE_GATEWAY_TLS_KEYFILE, value: /etc/driftline/gateway-tls.key}
        {{- end }}
        {{- else }}
        - {name: DRIFTLINE_HEALTH_PORT, value: "9400"}
        {{- end }}
        {{- with $part.extraEnv }}{{ toYaml . | nindent 8 }}{{ end }}
      {{- if ne $name "migrate" }}
      ports:
        - {name: {{ $port }}, containerPort: {{ $gateway | ternary 4318 9400 }}}
      # By progress, not by being there: not ready when something does not move, restarted when that
      # has lasted for health.unhealthy_after_s, which a database that is away must not cause at once.
      startupProbe: {httpGet: {path: /healthz, port: {{ $port }}, scheme: {{ $scheme }}}, periodSeconds: 5, failureThreshold: 60}
      readinessProbe: {httpGet: {path: /readyz, port: {{ $port }}, scheme: {{ $scheme }}}, periodSeconds: 10, timeoutSeconds: 3, failureThreshold: 3}
      livenessProbe: {httpGet: {path: /healthz, port: {{ $port }}, scheme: {{ $scheme }}}, periodSeconds: 10, timeoutSeconds: 5, failureThreshold: 6}
      {{- end }}
      {{- if $gateway }}
      # Endpoints forget a pod a moment after it is told to stop.
      lifecycle: {preStop: {sleep: {seconds: 5}}}
      {{- end }}
      resources: {{ toYaml $part.resources | nindent 8 }}
      volumeMounts:
        {{- if $files }}
        - {name: secret, mountPath: /etc/driftline, readOnly: true}
        {{- end }}
        - {name: home, mountPath: /var/lib/driftline}
        - {name: tmp, mountPath: /tmp}
  volumes:
    {{- if $files }}
    # As a folder, so that a changed tokens.json arrives; only what this pod needs of the Secret, and
    # never without items, which would be all of it.
    - name: secret
      secret:
        secretName: {{ $v.existingSecret }}
        defaultMode: 0440
        items:
          {{- range $files }}
          - {key: {{ . }}, path: {{ . }}}
          {{- end }}
    {{- end }}
    - {name: home, emptyDir: {}}
    - {name: tmp, emptyDir: {}}
{{- end }}
