{{- define "serval.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" }}
{{- end }}

{{- /* Start of all names. Cut so that the longest suffix fits 63 characters. */ -}}
{{- define "serval.fullname" -}}
{{- $name := include "serval.name" . }}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" }}
{{- else if contains $name .Release.Name }}
{{- .Release.Name | trunc 40 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name $name | trunc 40 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "serval.operatorName" -}}
{{- include "serval.fullname" . }}-operator
{{- end }}

{{- define "serval.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "serval.operatorName" .) .Values.serviceAccount.name }}
{{- else }}
{{- default "default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{- define "serval.selectorLabels" -}}
app.kubernetes.io/name: {{ include "serval.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: operator
{{- end }}

{{- define "serval.labels" -}}
{{ include "serval.selectorLabels" . }}
app.kubernetes.io/part-of: serval
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- /* Reference of an image: dict "image" (registry, repository, tag, digest), "registry", "version". */ -}}
{{- define "serval.imageRef" -}}
{{- $registry := default .registry .image.registry }}
{{- $path := ternary (printf "%s/%s" $registry .image.repository) .image.repository (ne $registry "") }}
{{- $tag := ternary "" (default .version .image.tag) (and (empty .image.tag) (not (empty .image.digest))) }}
{{- $path }}{{ with $tag }}:{{ . }}{{ end }}{{ with .image.digest }}@{{ . }}{{ end }}
{{- end }}

{{- define "serval.operatorImage" -}}
{{- include "serval.imageRef" (dict "image" .Values.image "registry" "" "version" .Chart.AppVersion) }}
{{- end }}

{{- define "serval.serverImage" -}}
{{- include "serval.imageRef" (dict "image" .Values.serverImage "registry" .Values.image.registry "version" .Chart.AppVersion) }}
{{- end }}

{{- /* The operator's configuration file. Maps of the values become lists, sorted by name. */ -}}
{{- define "serval.configuration" -}}
{{- $server := include "serval.serverImage" . }}
{{- $runtimes := list }}
{{- range $name, $runtime := .Values.runtimes }}
  {{- $images := dict }}
  {{- range $profile, $image := $runtime.images }}
    {{- if not (or (eq $profile "default") (hasKey $.Values.profiles $profile)) }}
      {{- fail (printf "runtimes.%s.images.%s: there is no profile of this name" $name $profile) }}
    {{- end }}
    {{- $_ := set $images $profile (default $server $image) }}
  {{- end }}
  {{- $policy := default $.Values.serverImage.pullPolicy $runtime.imagePullPolicy }}
  {{- $runtimes = append $runtimes (merge (dict "name" $name "images" $images "imagePullPolicy" $policy) $runtime) }}
{{- end }}
{{- $profiles := list }}
{{- range $name, $profile := .Values.profiles }}
  {{- $profiles = append $profiles (merge (dict "name" $name) $profile) }}
{{- end }}
{{- if not (hasKey .Values.runtimes .Values.defaultRuntime) }}
  {{- fail (printf "defaultRuntime: there is no runtime %q" .Values.defaultRuntime) }}
{{- end }}
{{- $fetch := dict
  "image" (default (include "serval.operatorImage" .) .Values.fetch.image)
  "imagePullPolicy" (default .Values.image.pullPolicy .Values.fetch.imagePullPolicy)
  "maxBytes" .Values.fetch.maxBytes
  "maxEntries" .Values.fetch.maxEntries
  "resources" .Values.fetch.resources }}
{{- dict
  "apiVersion" "config.serval.dev/v1alpha1"
  "kind" "OperatorConfiguration"
  "fetch" $fetch
  "defaults" (dict "runtime" .Values.defaultRuntime)
  "runtimes" $runtimes
  "profiles" $profiles | toYaml }}
{{- end }}

{{- /* What the operator does with the API server, and no more. A child is read once before the first apply. */ -}}
{{- define "serval.rules" -}}
- apiGroups: [serval.dev]
  resources: [modeldeployments]
  verbs: [list, watch]
- apiGroups: [serval.dev]
  resources: [modeldeployments/status]
  verbs: [patch]
# For owner references that block deletion, where the cluster checks them (OpenShift does).
- apiGroups: [serval.dev]
  resources: [modeldeployments/finalizers]
  verbs: [update]
- apiGroups: [apps]
  resources: [deployments]
  verbs: [get, list, watch, create, patch]
- apiGroups: [""]
  resources: [services]
  verbs: [get, list, watch, create, patch]
- apiGroups: [""]
  resources: [pods]
  verbs: [list, watch]
# Its own events, and those that the cluster wrote about pods that do not start.
- apiGroups: [""]
  resources: [events]
  verbs: [list, create]
{{- end }}

{{- /* Not empty where a ServiceMonitor is wanted and the cluster knows the kind. */ -}}
{{- define "serval.rendersServiceMonitor" -}}
{{- $monitor := .Values.metrics.serviceMonitor }}
{{- if and $monitor.enabled (or $monitor.force (.Capabilities.APIVersions.Has "monitoring.coreos.com/v1/ServiceMonitor")) -}}
true
{{- end }}
{{- end }}
