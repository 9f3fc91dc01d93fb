{{/* Shared by both charts: the agent's copy of this file is a link. */}}

{{/* Everything a component consists of. Takes a dict: root (the chart's context), name, values (image, ports
     and what else the component's values hold); where needed container (the first one's name), args, env,
     rules (of its ClusterRole) and annotations (of its pods, instead of the usual ones). */}}
{{- define "component" }}
---
apiVersion: v1
kind: ServiceAccount
metadata:
  {{- include "component.metadata" . | nindent 2 }}
{{- with .rules }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata:
  name: {{ $.name }}
rules:
{{- toYaml . | nindent 0 }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata:
  name: {{ $.name }}
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: ClusterRole
  name: {{ $.name }}
subjects:
- {kind: ServiceAccount, name: {{ $.name }}, namespace: {{ $.root.Release.Namespace }}}
{{- end }}
---
{{ mergeOverwrite (include "component.deployment" . | fromYaml) (.values.deploymentOverrides | default dict) | toYaml }}
---
{{ mergeOverwrite (include "component.service" . | fromYaml) (.values.serviceOverrides | default dict) | toYaml }}
{{- end }}

{{- define "component.metadata" -}}
name: {{ .name }}
namespace: {{ .root.Release.Namespace }}
labels: {app: {{ .name }}}
annotations: {app.kubernetes.io/name: {{ .name }}}
{{- end }}

{{- define "component.deployment" -}}
apiVersion: apps/v1
kind: Deployment
metadata:
  {{- include "component.metadata" . | nindent 2 }}
spec:
  selector:
    matchLabels: {app: {{ .name }}}
  template:
    metadata:
      labels: {app: {{ .name }}}
      annotations:
        {{- if .annotations }}
        {{- toYaml .annotations | nindent 8 }}
        {{- else }}
        prometheus.io/path: /metrics
        prometheus.io/port: "9091"
        prometheus.io/scrape: "true"
        sidecar.istio.io/inject: "false"
        {{- end }}
    spec:
      serviceAccountName: {{ .name }}
      securityContext:
        runAsNonRoot: true
        {{- if not .values.floatingUserId }}
        runAsUser: {{ .values.runAsUser | default 10101 | int64 }}
        {{- end }}
      {{- with .values.image.pullSecret }}
      imagePullSecrets:
      - name: {{ . }}
      {{- end }}
      containers:
      - name: {{ .container | default .name }}
        {{- include "component.image" (list .root .values.image) | nindent 8 }}
        {{- with .args }}
        args: {{ toJson . }}
        {{- end }}
        {{- with concat (.env | default list) (.values.env | default list) }}
        env: {{ toJson . }}
        {{- end }}
        {{- with .values.resources }}
        resources: {{ toJson . }}
        {{- end }}
        ports:
        {{- range $name, $port := .values.ports }}
        - {name: {{ $name }}, containerPort: {{ $port }}}
        {{- end }}
      {{- range $name, $sidecar := .values.sidecars }}
      - name: {{ $name }}
        {{- include "component.image" (list $.root $sidecar.image) | nindent 8 }}
        {{- with omit $sidecar "image" }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      {{- end }}
{{- end }}

{{- define "component.image" -}}
{{- $root := index . 0 }}
{{- with index . 1 -}}
image: {{ with .registry }}{{ . }}/{{ end }}{{ .repository }}:{{ .tag | default $root.Chart.AppVersion }}
imagePullPolicy: {{ .pullPolicy | default "IfNotPresent" }}
{{- end }}
{{- end }}

{{- define "component.service" -}}
apiVersion: v1
kind: Service
metadata:
  {{- include "component.metadata" . | nindent 2 }}
spec:
  type: {{ .values.serviceType | default "ClusterIP" }}
  selector: {app: {{ .name }}}
  ports:
  {{- range $name, $port := .values.ports }}
  - {name: {{ $name }}, port: {{ $port }}, targetPort: {{ $port }}}
  {{- end }}
{{- end }}

{{/* The pod of `helm test`, and its right to look. Like the vendor's, they stay behind. Takes a dict: root, name. */}}
{{- define "test" }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata:
  name: {{ .name }}-test
  namespace: {{ .root.Release.Namespace }}
  annotations: {helm.sh/hook: test, helm.sh/hook-weight: "-1"}
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: ClusterRole
  name: {{ .name }}
subjects:
- {kind: ServiceAccount, name: {{ .name }}, namespace: {{ .root.Release.Namespace }}}
---
apiVersion: v1
kind: Pod
metadata:
  name: {{ .name }}-test
  namespace: {{ .root.Release.Namespace }}
  annotations: {helm.sh/hook: test}
spec:
  serviceAccountName: {{ .name }}
  restartPolicy: Never
  containers:
  - name: check
    image: gcr.io/gloo-mesh/{{ .name }}:{{ .root.Chart.AppVersion }}
    args: [check]
{{- end }}

{{/* Where the licence is kept; one release of each chart at most makes it in a namespace. */}}
{{- define "licence" }}
---
apiVersion: v1
kind: Secret
metadata:
  name: gloo-mesh-enterprise-license
  namespace: {{ .Release.Namespace }}
data:
  key: {{ .Values.licenseKey | b64enc }}
{{- end }}

{{- define "licence.env" -}}
- name: LICENSE_KEY
  valueFrom: {secretKeyRef: {name: gloo-mesh-enterprise-license, key: key}}
{{- end }}

{{/* Stands for the vendor's pre-install check. Takes a dict: root, secret (name and namespace), keys. */}}
{{- define "require-secret" }}
{{- $namespace := .secret.namespace | default .root.Release.Namespace }}
{{- $data := (lookup "v1" "Secret" $namespace .secret.name).data | default dict }}
{{- range .keys }}
{{- if not (get $data .) }}
{{- fail (printf "secret %s/%s with a key %s is needed before %s is installed; create it first" $namespace $.secret.name . $.root.Chart.Name) }}
{{- end }}
{{- end }}
{{- end }}
