"""kubeadm: etcd is a static pod, its flags are in the manifest, and a client's certificates lie beside etcd's own."""

import posixpath

from agent.platforms import client_certificate, etcd_options, static_pod
from agent.platforms.client_certificate import Pair
from agent.platforms.etcd_options import Options
from agent.platforms.finding import ABSENT, CA_CERT, DATA_DIR, ENDPOINTS, KUBECONFIG, SURE, Draft, Finding, Value
from agent.platforms.plain_yaml import NotUnderstood, Scalar, parse
from agent.platforms.reading import Reader, Unreadable
from agent.platforms.static_pod import StaticPod

KUBERNETES = "/etc/kubernetes"
MANIFESTS = f"{KUBERNETES}/manifests"
KUBELET_CONFIG = "/var/lib/kubelet/config.yaml"
KUBECONFIGS = (f"{KUBERNETES}/admin.conf", f"{KUBERNETES}/super-admin.conf")
TOOLS = "in the image of the etcd pod, from where the root service copies them"
BY_HAND = "set the keys etcd.* in the configuration"


def look(reader: Reader) -> Finding:
    """What kubeadm left on this node."""
    draft = Draft("kubeadm", reader)
    try:
        manifest = posixpath.join(_manifests(draft), "etcd.yaml")
        text = draft.reader.text(manifest)
        if text is None:
            return draft.finish(ABSENT, _absence(draft.reader, manifest))
    except Unreadable as error:
        draft.unreadable(error)
        return draft.finish(ABSENT, error.reason)
    path = draft.reader.path(manifest)
    try:
        pod = static_pod.read(text, path, "etcd")
    except NotUnderstood as error:
        draft.trouble(f"{path} is not understood: {error}", BY_HAND)
    else:
        _values(draft, pod, posixpath.dirname(manifest))
    _kubeconfig(draft)
    return draft.finish(SURE, f"{path} starts etcd", tools=TOOLS)


def _manifests(draft: Draft) -> str:
    """The folder of static pods, which the kubelet's configuration may have moved."""
    try:
        text = draft.reader.text(KUBELET_CONFIG)
        tree = parse(text) if text else {}
    except (Unreadable, NotUnderstood):
        return MANIFESTS  # who may not read this one may not read the manifest either
    folder = tree.get("staticPodPath") if isinstance(tree, dict) else None
    return folder.text if isinstance(folder, Scalar) and folder.text.startswith("/") else MANIFESTS


def _absence(reader: Reader, manifest: str) -> str:
    missing = f"{reader.path(manifest)} does not exist"
    server = posixpath.join(posixpath.dirname(manifest), "kube-apiserver.yaml")
    if reader.is_there(server):
        return f"{missing}: the control plane of {reader.path(server)} uses an external etcd"
    return missing


def _values(draft: Draft, pod: StaticPod, manifests: str) -> None:
    options = etcd_options.from_words(pod.words)
    path = pod.words[0].why if pod.words else ""
    if "config-file" in options:
        draft.trouble(f"{path} starts etcd with a configuration file of its own", BY_HAND)
        return
    listen = options.get("listen-client-urls")
    endpoint = etcd_options.local_endpoint(listen.text) if listen else ""
    if listen and endpoint:
        draft.values[ENDPOINTS] = Value(endpoint, listen.why)
    else:
        draft.trouble(f"{path} has no usable --listen-client-urls", BY_HAND)
    _on_node(draft, pod, options, "data-dir", DATA_DIR)
    if endpoint.startswith("https:"):
        _tls(draft, pod, options, manifests)


def _on_node(draft: Draft, pod: StaticPod, options: Options, name: str, key: str) -> str:
    """Sets a key to the place on the node of a path in the pod. Returns it as a path of the node."""
    value = options.get(name)
    place = pod.on_node(value.text) if value and value.text.startswith("/") else None
    if value is None or place is None:
        where = f"{value.why} is no folder of the node" if value else f"etcd's manifest has no --{name}"
        draft.trouble(where, f"set {key} in the configuration")
        return ""
    draft.values[key] = Value(draft.reader.path(place), value.why)
    return place


def _tls(draft: Draft, pod: StaticPod, options: Options, manifests: str) -> None:
    authority = _on_node(draft, pod, options, "trusted-ca-file", CA_CERT)
    if not authority:
        return
    own = posixpath.dirname(authority)
    pki = posixpath.dirname(own)
    draft.material |= {
        "etcd_ca": authority, "cluster_ca": f"{pki}/ca.crt", "service_account_key": f"{pki}/sa.pub",
        "kube_apiserver_manifest": f"{manifests}/kube-apiserver.yaml",
    }  # fmt: skip
    pairs = [
        Pair(f"{own}/healthcheck-client.crt", f"{own}/healthcheck-client.key", "etcd's own client"),
        Pair(f"{pki}/apiserver-etcd-client.crt", f"{pki}/apiserver-etcd-client.key", "the API server's client"),
        Pair(f"{own}/server.crt", f"{own}/server.key", "etcd's server, usable by a client"),
    ]
    before = len(draft.troubles)
    if not client_certificate.choose(draft, pairs) and len(draft.troubles) == before:
        draft.trouble(
            f"{draft.reader.path(pairs[0].cert)} does not exist, nor another certificate for a client of etcd",
            "`kubeadm init phase certs etcd-healthcheck-client` makes it; or set etcd.cert and etcd.key",
        )


def _kubeconfig(draft: Draft) -> None:
    for name in KUBECONFIGS:
        try:
            if draft.reader.is_there(name):
                draft.values[KUBECONFIG] = Value(draft.reader.path(name), draft.reader.path(name))
                return
        except Unreadable as error:
            draft.unreadable(error)
            return
