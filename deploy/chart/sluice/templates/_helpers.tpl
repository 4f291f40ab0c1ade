{{/* Name of all objects. Controllers for different namespaces may share a cluster. */}}
{{- define "sluice.name" -}}
sluice-controller{{ with .Values.controller.namespace }}-{{ . }}{{ end }}
{{- end }}

{{/* Labels that select the controller's pods. They can never change. */}}
{{- define "sluice.selector" -}}
app.kubernetes.io/name: sluice-controller
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "sluice.labels" -}}
{{ include "sluice.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: sluice
{{- end }}

{{/* An image: of a dict with `image` (registry, repository, tag, digest) and `root`. */}}
{{- define "sluice.image" -}}
{{- with .image.registry }}{{ trimSuffix "/" . }}/{{ end }}{{ .image.repository }}
{{- if .image.digest }}@{{ .image.digest }}{{ else }}:{{ .image.tag | default .root.Chart.AppVersion }}{{ end }}
{{- end }}

{{/* The rules of `files/rules.yaml` for the command `of` in the scopes in `scopes`. */}}
{{- define "sluice.rules" -}}
{{- $rules := get (.root.Files.Get "files/rules.yaml" | fromYaml) .of }}
{{- $found := list }}
{{- range .scopes }}{{ $found = concat $found (get $rules .) }}{{ end }}
{{- toYaml $found }}
{{- end }}

{{/* A role and its binding: of a dict with `root`, `kind` (Role, ClusterRole), `name`, `account`, `namespace`, `rules`, `annotations`. */}}
{{- define "sluice.role" -}}
apiVersion: rbac.authorization.k8s.io/v1
kind: {{ .kind }}
metadata:
  name: {{ .name }}
  {{- with .namespace }}
  namespace: {{ . }}
  {{- end }}
  labels:
    {{- include "sluice.labels" .root | nindent 4 }}
  {{- with .annotations }}
  annotations:
    {{- . | nindent 4 }}
  {{- end }}
rules:
  {{- .rules | nindent 2 }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: {{ .kind }}Binding
metadata:
  name: {{ .name }}
  {{- with .namespace }}
  namespace: {{ . }}
  {{- end }}
  labels:
    {{- include "sluice.labels" .root | nindent 4 }}
  {{- with .annotations }}
  annotations:
    {{- . | nindent 4 }}
  {{- end }}
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: {{ .kind }}
  name: {{ .name }}
subjects:
- kind: ServiceAccount
  name: {{ .account }}
  namespace: {{ .root.Release.Namespace }}
{{- end }}

{{/* What containers of the controller may do: as Pod Security's `restricted` wants it. */}}
{{- define "sluice.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{- define "sluice.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{/* Where pods of the controller run, and with which Secrets. */}}
{{- define "sluice.placement" -}}
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* Flags of `run`: keys of `controller` and `gateway` are their names in camelCase. */}}
{{- define "sluice.flags" -}}
- --admin-address=[::]:{{ .Values.adminPort }}
- --gateway-image={{ include "sluice.image" (dict "image" .Values.gateway.image "root" .) }}
{{- with .Values.gateway.image.pullPolicy }}
- --gateway-image-pull-policy={{ . }}
{{- end }}
{{- with .Values.gateway.imagePullSecrets }}
- --gateway-image-pull-secrets={{ join "," . }}
{{- end }}
{{- with .Values.gateway.nodeSelector }}
{{- $labels := list }}
{{- range $key, $value := . }}{{ $labels = append $labels (printf "%s=%s" $key $value) }}{{ end }}
- {{ printf "--gateway-node-selector=%s" (join "," $labels) | quote }}
{{- end }}
{{- range $key := list "tolerations" "resources" }}
{{- with get $.Values.gateway $key }}
- {{ printf "--gateway-%s=%s" $key (toJson .) | quote }}
{{- end }}
{{- end }}
{{- range $key, $value := omit .Values.gateway "image" "imagePullSecrets" "nodeSelector" "tolerations" "resources" }}
- {{ printf "--gateway-%s=%v" (kebabcase $key) (include "sluice.scalar" $value) | quote }}
{{- end }}
{{- range $key, $value := .Values.controller }}
{{- with include "sluice.scalar" $value }}
- {{ printf "--%s=%s" (kebabcase $key) . | quote }}
{{- end }}
{{- end }}
{{- end }}

{{/* A number as its author wrote it: Helm reads all as floating point, which prints a million as 1e+06. */}}
{{- define "sluice.scalar" -}}
{{- if kindIs "float64" . }}{{ int64 . }}{{ else }}{{ . }}{{ end }}
{{- end }}
