"""The Kubernetes manifests, as files: valid, of one mind with each other and with crcache."""

from __future__ import annotations

import contextlib
import io
import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate  # type: ignore[import-untyped]
import yaml

from crcache import __version__
from crcache.cli import main
from crcache.config import Overrides
from tests.config_case import ConfigCase

ROOT = Path(__file__).resolve().parents[1] / "packaging/kubernetes"
CONTAINERFILE = ROOT.parent / "container/Containerfile"
#: From the oldest that clusters are still seen with, to the newest that has schemas.
VERSIONS = ("1.25", "1.28", "1.31", "1.34", kubernetes_validate.latest_version())
#: Not Kubernetes' own; they come with the Prometheus operator.
FOREIGN = {"ServiceMonitor"}

Manifest = dict[str, Any]


def documents(file: Path) -> list[Manifest]:
    """What is in one file."""
    return [each for each in yaml.safe_load_all(file.read_text()) if each]


def kustomizations() -> list[Path]:
    """All directories that kustomize can build, or build in."""
    return sorted(file.parent for file in ROOT.rglob("kustomization.yaml"))


def manifests() -> Iterator[tuple[Path, Manifest]]:
    """Everything that Kubernetes is to be given, and where it is."""
    for place in kustomizations():
        (kustomization,) = documents(place / "kustomization.yaml")
        for name in kustomization.get("resources", []):
            yield from ((place / name, each) for each in documents(place / name))


def workloads() -> Iterator[tuple[Path, Manifest]]:
    """The specifications of all pods."""
    for file, manifest in manifests():
        if manifest["kind"] in ("DaemonSet", "Deployment"):
            yield file, manifest["spec"]["template"]["spec"]


def pod(name: str) -> Manifest:
    """The specification of the pods of that directory."""
    (found,) = (spec for file, spec in workloads() if file.parent.name == name)
    return found


class ManifestTests(ConfigCase):
    def test_valid(self) -> None:
        """Each is what the schemas of several versions of Kubernetes allow, without a field too many."""
        kinds = set()
        for (file, manifest), version in itertools.product(manifests(), VERSIONS):
            kinds.add(manifest["kind"])
            if manifest["kind"] not in FOREIGN:
                try:
                    kubernetes_validate.validate(manifest, version, strict=True)
                except kubernetes_validate.ValidationError as error:
                    self.fail(f"{file}: {version}: {error.message}")
        own = {"DaemonSet", "Deployment", "Ingress", "Namespace", "NetworkPolicy", "PersistentVolumeClaim"}
        self.assertEqual(kinds, own | FOREIGN | {"PodDisruptionBudget", "ResourceQuota", "Service"})

    def test_mistakes_seen(self) -> None:
        """The schemas see what is not right: a misspelt field, a wrong type."""
        (daemonset,) = documents(ROOT / "daemonset/daemonset.yaml")
        container = daemonset["spec"]["template"]["spec"]["containers"][0]
        for key, value in (("imagePullPolice", "Always"), ("args", "--config")):
            broken = {**daemonset, "spec": {**daemonset["spec"], "template": {"spec": {"containers": [{**container}]}}}}
            broken["spec"]["template"]["spec"]["containers"][0][key] = value
            with self.assertRaises(kubernetes_validate.ValidationError):
                kubernetes_validate.validate(broken, VERSIONS[0], strict=True)

    def test_kustomizations(self) -> None:
        """Each names files that exist, and no file is left out."""
        self.assertEqual(len(kustomizations()), 6)
        for place in kustomizations():
            (kustomization,) = documents(place / "kustomization.yaml")
            generators = [*kustomization.get("configMapGenerator", []), *kustomization.get("secretGenerator", [])]
            named = {*kustomization.get("resources", []), *(file for each in generators for file in each["files"])}
            self.assertEqual(named | {"kustomization.yaml"}, {file.name for file in place.iterdir()}, place)

    def test_images(self) -> None:
        """All are of crcache's own version; none is whatever is latest, or pulled each time."""
        for place in (place for place in kustomizations() if place.parent == ROOT):
            (kustomization,) = documents(place / "kustomization.yaml")
            self.assertEqual(kustomization["images"], [{"name": "crcache", "newTag": __version__}], place)
        for file, spec in workloads():
            for container in [*spec.get("initContainers", []), *spec["containers"]]:
                self.assertEqual((container["image"], container["imagePullPolicy"]), ("crcache", "IfNotPresent"), file)

    def test_configurations(self) -> None:
        """What they configure is taken by crcache, with the directory, ports and credentials that the pods have."""
        for name, host in (("daemonset", ":interface=127.0.0.1"), ("deployment", "")):
            config = self.config((ROOT / name / "crcache.yaml").read_text())
            self.assertEqual((config.listen, config.admin), ((f"tcp:3000{host}",), f"tcp:3001{host}"))
            container = pod(name)["containers"][0]
            ports = {port["name"]: port["containerPort"] for port in container["ports"]}
            self.assertEqual(ports, {"registry": 3000, "admin": 3001})
            mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
            self.assertEqual(mounts[str(config.cache_directory)], "cache")
            self.assertEqual(mounts["/etc/crcache"], "config")
            self.assertEqual(container["args"], ["--config", "/etc/crcache/crcache.yaml"])

    def test_credentials(self) -> None:
        """The example of credentials is one, and the flag names the file that is mounted."""
        file = ROOT / "components/credentials/credentials.yaml"
        secret = self.write(file.read_text(), name="credentials.yaml")
        config = self.config("", Overrides(credentials_file=secret))
        self.assertEqual([credential.username for credential in config.credentials.entries.values()], ["puller"])
        (component,) = documents(ROOT / "components/credentials/kustomization.yaml")
        (patch,) = component["patches"]
        flag, mount, volume = (each["value"] for each in yaml.safe_load(patch["patch"]))
        self.assertEqual(flag, f"--creds-file={mount['mountPath']}/{file.name}")
        self.assertEqual((mount["name"], volume["secret"]["secretName"]), (volume["name"], "crcache-credentials"))

    def test_ports(self) -> None:
        """Probes, services, rules and ingress name ports that the pods have."""
        ports = {"registry", "admin"}
        for name in ("daemonset", "deployment"):
            container = pod(name)["containers"][0]
            for probe, path in (("startup", "/healthz"), ("liveness", "/healthz"), ("readiness", "/readyz")):
                asked = container[f"{probe}Probe"]["httpGet"]
                self.assertEqual((asked["port"], asked["path"]), ("admin", path))
        for _, manifest in manifests():
            spec = manifest.get("spec", {})
            if manifest["kind"] == "Service":
                self.assertLessEqual({port["targetPort"] for port in spec["ports"]}, ports)
            if manifest["kind"] == "NetworkPolicy":
                self.assertEqual({port["port"] for rule in spec["ingress"] for port in rule["ports"]}, ports)
            if manifest["kind"] == "ServiceMonitor":
                self.assertEqual([endpoint["port"] for endpoint in spec["endpoints"]], ["admin"])

    def test_selectors(self) -> None:
        """What selects pods selects those of one workload, and not another's."""
        labels = {
            file.parent.name: manifest["spec"]["template"]["metadata"]["labels"]
            for file, manifest in manifests()
            if manifest["kind"] in ("DaemonSet", "Deployment")
        }
        self.assertEqual(len({str(each) for each in labels.values()}), 3)
        selectors = [
            spec["selector"]
            if manifest["kind"] == "Service"
            else (spec.get("selector") or spec["podSelector"])["matchLabels"]
            for _, manifest in manifests()
            if manifest["kind"] in ("Service", "PodDisruptionBudget", "NetworkPolicy") and (spec := manifest["spec"])
        ]
        self.assertEqual(selectors, [labels["deployment"]] * 4)

    def test_least_privilege(self) -> None:
        """All run without capabilities, on a root that is read only, as the image's user.

        But what prepares a node: that is root's, with no more than what changing an owner takes.
        """
        found = re.search(r"^USER (\d+):(\d+)$", CONTAINERFILE.read_text(), re.MULTILINE)
        assert found is not None
        user = int(found[1])
        for file, spec in workloads():
            context = spec["securityContext"]
            self.assertEqual((context["runAsNonRoot"], context["runAsUser"], context["runAsGroup"]), (True, user, user))
            self.assertEqual(context["seccompProfile"], {"type": "RuntimeDefault"})
            self.assertFalse(spec["automountServiceAccountToken"])
            initial = spec.get("initContainers", [])
            for container in [*initial, *spec["containers"]]:
                own = container["securityContext"]
                self.assertTrue(own["readOnlyRootFilesystem"], file)
                self.assertFalse(own["allowPrivilegeEscalation"], file)
                self.assertEqual(own["capabilities"]["drop"], ["ALL"], file)
                self.assertIn("memory", container["resources"]["limits"], file)
                self.assertEqual("runAsUser" in own, container in initial, file)
                allowed = ["CHOWN", "FOWNER"] if container["name"] == "cache-directory" else []
                self.assertEqual(own["capabilities"].get("add", []), allowed, file)

    def test_selinux(self) -> None:
        """What mounts a directory of the node has the type that may write there, and nothing else has."""
        seen = []
        for file, spec in workloads():
            own = {volume["name"] for volume in spec["volumes"] if "hostPath" in volume}
            for container in [*spec.get("initContainers", []), *spec["containers"]]:
                on_node = bool(own & {mount["name"] for mount in container.get("volumeMounts", [])})
                options = container["securityContext"].get("seLinuxOptions")
                self.assertEqual(options, {"type": "spc_t"} if on_node else None, (file, container["name"]))
                seen += [container["name"]] if on_node else []
        self.assertEqual(sorted(seen), ["cache-directory", "crcache", "hosts", "hosts"])

    def test_nodes(self) -> None:
        """The cache of a node is on every node, before anything of the cluster's, on the node's loopback alone."""
        spec = pod("daemonset")
        self.assertEqual(spec["tolerations"], [{"operator": "Exists"}])
        self.assertEqual(spec["priorityClassName"], "system-node-critical")
        self.assertEqual((spec["hostNetwork"], spec["dnsPolicy"]), (True, "Default"))
        for port in spec["containers"][0]["ports"]:
            self.assertEqual((port["hostPort"], port["hostIP"]), (port["containerPort"], "127.0.0.1"))

    def test_hosts(self) -> None:
        """What the pods of a node run there writes containerd's file, below the directory that is mounted; and takes it
        back.
        """
        node = self.directory / "node"
        certificates = node / "etc/containerd/certs.d"
        certificates.mkdir(parents=True)
        (node / "etc/containerd/config.toml").write_text(
            'version = 2\n[plugins."io.containerd.grpc.v1.cri".registry]\nconfig_path = "/etc/containerd/certs.d"\n'
        )
        for name, there in (("daemonset", True), ("remove", False)):
            container = next(each for each in pod(name)["initContainers"] if each["name"] == "hosts")
            (mount,) = container["volumeMounts"]
            program, *arguments = (word.replace("/node", str(node)) for word in container["command"])
            self.assertEqual((program, mount["mountPath"]), ("crcache", "/node/etc/containerd"))
            (volume,) = (each for each in pod(name)["volumes"] if each["name"] == mount["name"])
            self.assertEqual(volume["hostPath"]["path"], "/etc/containerd")
            with contextlib.redirect_stdout(io.StringIO()) as said:
                self.assertEqual(main(arguments), 0, said.getvalue())
            file = certificates / "_default/hosts.toml"
            self.assertEqual(file.exists() and "http://127.0.0.1:3000" in file.read_text(), there)

    def test_imports(self) -> None:
        """What containerd imports from elsewhere is not there for the pod; docs/kubernetes.md's patch mounts it."""
        text = (ROOT.parents[1] / "docs/kubernetes.md").read_text()
        (block,) = re.findall(r"```yaml\n(patches:\n.+?)```", text, re.DOTALL)
        ((patch,),) = yaml.safe_load(block).values()
        mount, volume = yaml.safe_load(patch["patch"])
        (daemonset,) = documents(ROOT / "daemonset/daemonset.yaml")
        self.assertEqual(patch["target"], {"kind": daemonset["kind"], "name": daemonset["metadata"]["name"]})
        self.assertEqual(mount["path"], "/spec/template/spec/initContainers/1/volumeMounts/-")
        container = pod("daemonset")["initContainers"][1]
        self.assertEqual((container["name"], pod("remove")["initContainers"][0]["name"]), ("hosts", "hosts"))
        self.assertEqual(mount["value"]["name"], volume["value"]["name"])
        place = volume["value"]["hostPath"]["path"]
        self.assertEqual(mount["value"]["mountPath"], f"/node{place}")

        node = self.directory / "node"
        (node / "etc/containerd").mkdir(parents=True)
        (node / "etc/containerd/config.toml").write_text(f'version = 2\nimports = ["{place}/registry.toml"]\n')
        arguments = [word.replace("/node", str(node)) for word in container["command"][1:]]
        for there in (False, True):
            if there:
                (node / place.lstrip("/")).mkdir(parents=True)
                (node / place.lstrip("/") / "registry.toml").write_text(
                    '[plugins."io.containerd.grpc.v1.cri".registry]\nconfig_path = "/etc/containerd/certs.d"\n'
                )
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()) as said:
                self.assertEqual(main(arguments), 0 if there else 1, said.getvalue())
            self.assertEqual(f"imports {node}{place}/registry.toml, which is not there" in said.getvalue(), not there)

    def test_priority(self) -> None:
        """There is a quota for the priority that pods have: without one, some clusters refuse them."""
        quotas = {file.parent.name: each["spec"] for file, each in manifests() if each["kind"] == "ResourceQuota"}
        for file, spec in workloads():
            if "priorityClassName" in spec:
                (scope,) = quotas.pop(file.parent.name)["scopeSelector"]["matchExpressions"]
                self.assertEqual((scope["scopeName"], scope["values"]), ("PriorityClass", [spec["priorityClassName"]]))
        self.assertEqual(quotas, {})

    def test_drain(self) -> None:
        """Kubernetes waits longer than crcache takes to finish what is under way."""
        for name in ("daemonset", "deployment"):
            drain = self.config((ROOT / name / "crcache.yaml").read_text()).drain_timeout
            self.assertGreaterEqual(pod(name)["terminationGracePeriodSeconds"], drain + 10)

    def test_documentation(self) -> None:
        """What docs/kubernetes.md has one build or write is there, and of this version."""
        text = (ROOT.parents[1] / "docs/kubernetes.md").read_text()
        for path in re.findall(r"crcache/packaging/kubernetes/([\w/]+)", text):
            self.assertTrue((ROOT / path / "kustomization.yaml").exists(), path)
        for version in re.findall(r"crcache:(\d[\w.]*)|newTag: (\S+)", text):
            self.assertIn(__version__, version)
        blocks = [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.+?)```", text, re.DOTALL)]
        kinds = ["resources", "patches", "resources", "components", "configMapGenerator"]
        self.assertEqual([sorted(block)[-1] for block in blocks], kinds)
        # Without that, the image would be looked for on Docker Hub.
        self.assertEqual(blocks[0]["images"], blocks[2]["images"])
        (own,) = documents(ROOT / "daemonset/kustomization.yaml")
        self.assertEqual(blocks[4]["configMapGenerator"][0]["files"], own["configMapGenerator"][0]["files"])
        for place in kustomizations():
            self.assertIn(f"`{place.relative_to(ROOT)}`" if place.name != "remove" else "kubernetes/remove", text)
