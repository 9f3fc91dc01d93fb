#!/usr/bin/env bash
# The vendor's production pages followed by hand, with openssl, kubectl and helm: what the program is measured against.
#
#   KUBECONFIG=FILE CHARTS=FOLDER VERSION=1.2.9 LICENSE=KEY [PARALLEL=1] benchmarks/seed-flow.sh WORKERS
#
# Contexts are mgmt-cluster and cluster-1 … cluster-WORKERS, all without Gloo Mesh. One worker follows the other;
# with PARALLEL=1 they go side by side. Keys live in a private temporary folder that is gone at the end.
set -euo pipefail
umask 077

refuse() {
  echo "seed-flow.sh: $1" >&2
  exit 2
}

workers=${1:-}
[[ $workers =~ ^[1-9][0-9]*$ ]] || refuse "the number of workers is '$workers'; give a whole number from 1 up."
for name in KUBECONFIG CHARTS VERSION LICENSE; do
  [ -n "${!name:-}" ] || refuse "$name is not set; the script's first lines say what it needs."
done
charts=$(realpath -- "$CHARTS")
for chart in gloo-mesh-enterprise enterprise-agent; do
  [ -f "$charts/$chart-$VERSION.tgz" ] || refuse "$charts has no $chart-$VERSION.tgz; check CHARTS and VERSION."
done
# A relative path would break in the temporary folder.
[[ $KUBECONFIG == *:* ]] || KUBECONFIG=$(realpath -- "$KUBECONFIG")
export KUBECONFIG

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"

on() { # context, kubectl's arguments
  kubectl --context "$@" >/dev/null
}

secret() { # context, name, kubectl's --from-file arguments
  on "$1" --namespace gloo-mesh create secret generic "${@:2}"
}

install() { # context, namespace, release, chart, helm's arguments
  helm --kube-context "$1" --namespace "$2" install "$3" "$charts/$4-$VERSION.tgz" --wait "${@:5}" >/dev/null
}

with_licence() { # The key goes in by a pipe, because arguments are for everyone on the machine to read.
  printf "licenseKey: '%s'\n" "${LICENSE//\'/\'\'}" | "$@" --values -
}

# Relay trust. The page's key sizes; its serials and wildcard names would be refused by a strict TLS stack.
authority=enterprise-networking.gloo-mesh
openssl req -x509 -newkey rsa:4096 -nodes -sha256 -days 3650 -subj /CN=relay-root \
  -keyout relay-root.key -out relay-root.crt 2>/dev/null

issue() { # name, serial, openssl's extension lines
  openssl req -newkey rsa:2048 -nodes -subj "/CN=$1" -keyout "$1.key" -out "$1.csr" 2>/dev/null
  openssl x509 -req -days 365 -CA relay-root.crt -CAkey relay-root.key -set_serial "$2" \
    -in "$1.csr" -out "$1.crt" -extfile <(printf '%s\n' "${@:3}") 2>/dev/null
}
issue relay-server-tls 1 basicConstraints=critical,CA:FALSE keyUsage=critical,digitalSignature,keyEncipherment \
  extendedKeyUsage=serverAuth,clientAuth "subjectAltName=DNS:$authority"
issue relay-tls-signing 2 basicConstraints=critical,CA:TRUE keyUsage=critical,keyCertSign,cRLSign \
  extendedKeyUsage=clientAuth
openssl rand -hex 20 >token
openssl rand -hex 20 >forwarding-token

# The management cluster.
on mgmt-cluster create namespace gloo-mesh
for pair in relay-server-tls relay-tls-signing; do
  secret mgmt-cluster "$pair-secret" \
    --from-file="tls.key=$pair.key" --from-file="tls.crt=$pair.crt" --from-file=ca.crt=relay-root.crt
done
secret mgmt-cluster relay-root-tls-secret --from-file=ca.crt=relay-root.crt
secret mgmt-cluster relay-identity-token-secret --from-file=token
secret mgmt-cluster relay-forwarding-identity-token-secret --from-file=token=forwarding-token
with_licence install mgmt-cluster gloo-mesh gloo-mesh-enterprise gloo-mesh-enterprise \
  --set enterprise-networking.selfSigned=false,enterprise-networking.enterpriseNetworking.serviceType=LoadBalancer

relay() { # jsonpath
  kubectl --context mgmt-cluster --namespace gloo-mesh get service enterprise-networking --output "jsonpath=$1"
}
host=$(relay '{.status.loadBalancer.ingress[0].ip}{.status.loadBalancer.ingress[0].hostname}')
port=$(relay '{.spec.ports[?(@.name=="grpc")].port}')
[ -n "$host" ] || refuse "service gloo-mesh/enterprise-networking has no load balancer address; look at its events."

worker() { # context, which is the cluster's name too
  on "$1" create namespace gloo-mesh
  secret "$1" relay-root-tls-secret --from-file=ca.crt=relay-root.crt
  secret "$1" relay-identity-token-secret --from-file=token
  install "$1" gloo-mesh enterprise-agent enterprise-agent \
    --set "relay.cluster=$1,relay.serverAddress=$host:$port,relay.authority=$authority"
  on mgmt-cluster apply --filename - <<YAML
apiVersion: multicluster.solo.io/v1alpha1
kind: KubernetesCluster
metadata: {name: $1, namespace: gloo-mesh}
spec: {clusterDomain: cluster.local}
YAML
  on "$1" create namespace gloo-mesh-addons
  on "$1" label namespace gloo-mesh-addons istio-injection=enabled
  with_licence install "$1" gloo-mesh-addons enterprise-agent-addons enterprise-agent \
    --set enterpriseAgent.enabled=false,rate-limiter.enabled=true,ext-auth-service.enabled=true
}

side_by_side=()
for number in $(seq "$workers"); do
  if [ "${PARALLEL:-}" = 1 ]; then
    worker "cluster-$number" &
    side_by_side+=($!)
  else
    worker "cluster-$number"
  fi
done
failed=0
for process in ${side_by_side[@]+"${side_by_side[@]}"}; do
  wait "$process" || failed=1
done
[ "$failed" = 0 ] || exit 1
echo "relay at $host:$port, $workers workers"
