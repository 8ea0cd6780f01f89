"""Servers for the benchmark of remote repositories: MinIO and an SSH server, each behind a proxy that adds latency.

All of them are private, on loopback, and gone when the measurement ends.
"""

import json
import os
import pwd
import shutil
import socket
import subprocess
import time
from pathlib import Path

import tools

ROOT = Path(__file__).resolve().parent.parent
ACCESS_KEY, SECRET_KEY, REGION = "bench-access-key", "bench-secret-key", "us-east-1"
BUCKETS = ("strongroom", "restic", "rustic")


def free_port():
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]


def wait_for(port, process):
    for _ in range(600):
        if process.poll() is not None:
            raise tools.Failure(f"a server ended with status {process.returncode}")
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.1)
    raise tools.Failure("a server did not begin")


class Delay:
    """The proxy of the test kit."""

    def __init__(self, port, milliseconds, is_http):
        subprocess.run(["cargo", "build", "--release", "--locked", "-q", "-p", "strongroom-testkit", "--example", "delay"],
                       cwd=ROOT, check=True)
        metadata = subprocess.run(["cargo", "metadata", "--no-deps", "--format-version=1"], cwd=ROOT, check=True,
                                  capture_output=True, text=True)
        program = Path(json.loads(metadata.stdout)["target_directory"]) / "release" / "examples" / "delay"
        words = [program, f"127.0.0.1:{port}", str(milliseconds)] + (["http"] if is_http else [])
        self.process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.port = int(self.process.stdout.readline().rsplit(":", 1)[1])

    def requests(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    def close(self):
        self.process.stdin.close()
        self.process.wait(10)


class Place:
    """A server with the proxy in front of it."""
    name = ""
    is_http = False

    def __init__(self, work, milliseconds):
        self.work, self.delay = work / "place", None
        shutil.rmtree(self.work, ignore_errors=True)
        self.work.mkdir(parents=True)
        self.server_port = free_port()
        self.start()
        # Without latency there is a proxy, too: what it costs itself must not count as latency.
        self.delay = Delay(self.server_port, milliseconds, self.is_http)
        self.port = self.delay.port

    def requests(self):
        return self.delay.requests()

    def close(self):
        if self.delay:
            self.delay.close()
        self.stop()
        shutil.rmtree(self.work, ignore_errors=True)


class S3(Place):
    name, is_http = "s3", True

    def start(self):
        program = self.work / "minio"
        subprocess.run(["go", "build", "-o", program, "."], cwd=ROOT / "tests" / "servers" / "minio", check=True)
        env = os.environ | {"MINIO_ROOT_USER": ACCESS_KEY, "MINIO_ROOT_PASSWORD": SECRET_KEY, "MINIO_BROWSER": "off",
                            "MINIO_UPDATE": "off", "TMPDIR": str(self.work)}
        self.server = subprocess.Popen([program, "serve", f"127.0.0.1:{self.server_port}"], env=env, text=True,
                                       stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_for(self.server_port, self.server)
        self.program = program
        self.count = 0

    def room(self):
        """New buckets, and the directory in which the server keeps them."""
        self.count += 1
        names = {tool: f"{tool}-{self.count}" for tool in BUCKETS}
        wanted = {"address": f"127.0.0.1:{self.server_port}", "tls": False, "access_key": ACCESS_KEY,
                  "secret_key": SECRET_KEY, "region": REGION, "buckets": [{"name": name} for name in names.values()]}
        subprocess.run([self.program, "prepare"], input=json.dumps(wanted), text=True, check=True)
        data, = self.work.glob("strongroom-minio-*")
        return {tool: (name, data / name) for tool, name in names.items()}

    def stop(self):
        self.server.stdin.close()
        self.server.wait(20)

    def enter(self, tool, bucket):
        endpoint = f"http://127.0.0.1:{self.port}"
        tool.env |= {"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY, "AWS_DEFAULT_REGION": REGION}
        if tool.name == "strongroom":
            return f'url = "s3://{bucket}/r"\nendpoint = "{endpoint}"\nregion = "{REGION}"\npath_style = true\n'
        if tool.name == "restic":
            tool.env["RESTIC_REPOSITORY"] = f"s3:{endpoint}/{bucket}"
            return ""
        tool.env["RUSTIC_REPOSITORY"] = "opendal:s3"
        return (f'bucket = "{bucket}"\nendpoint = "{endpoint}"\nregion = "{REGION}"\nroot = "/"\n'
                f'access_key_id = "{ACCESS_KEY}"\nsecret_access_key = "{SECRET_KEY}"\n')


class Sftp(Place):
    name = "sftp"

    def start(self):
        sshd = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
        if not sshd:
            raise tools.Failure("no sshd (Debian package openssh-server)")
        for name in ("host", "user"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self.work / name], check=True)
        shutil.copy(self.work / "user.pub", self.work / "authorized")
        host_key = (self.work / "host.pub").read_text().split()
        self.host_key = " ".join(host_key[:2])
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(exist_ok=True)
        (self.work / "sshd_config").write_text(f"""\
ListenAddress 127.0.0.1:{self.server_port}
HostKey {self.work}/host
AuthorizedKeysFile {self.work}/authorized
PidFile none
UsePAM no
StrictModes no
PasswordAuthentication no
MaxStartups 100
Subsystem sftp internal-sftp
""")
        self.server = subprocess.Popen([sshd, "-D", "-f", self.work / "sshd_config"], stdin=subprocess.DEVNULL,
                                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_for(self.server_port, self.server)
        self.user = pwd.getpwuid(os.geteuid()).pw_name
        self.count = 0

    def room(self):
        self.count += 1
        rooms = {}
        for tool in BUCKETS:
            directory = self.work / "data" / f"{tool}-{self.count}"
            directory.mkdir(parents=True)
            rooms[tool] = (str(directory), directory)
        return rooms

    def stop(self):
        self.server.terminate()
        self.server.wait(20)

    def enter(self, tool, directory):
        known = self.work / "known_hosts"
        known.write_text(f"[127.0.0.1]:{self.port} {self.host_key}\n")
        if tool.name == "strongroom":
            return (f'url = "sftp://{self.user}@127.0.0.1:{self.port}{directory}"\nknown_hosts = "{known}"\n'
                    f'credentials_file = "{self.work}/user"\n')
        ssh = (f"ssh -p {self.port} -i {self.work}/user -o IdentitiesOnly=yes -o BatchMode=yes"
               f" -o UserKnownHostsFile={known} {self.user}@127.0.0.1 -s sftp")
        if tool.name == "restic":
            tool.env["RESTIC_REPOSITORY"] = f"sftp:{self.user}@127.0.0.1:{directory}"
            tool.options = ["-o", f"sftp.command={ssh}"]
            return ""
        tool.env["RUSTIC_REPOSITORY"] = "opendal:sftp"
        return (f'endpoint = "ssh://{self.user}@127.0.0.1:{self.port}"\nuser = "{self.user}"\nroot = "{directory}"\n'
                f'key = "{self.work}/user"\nknown_hosts_strategy = "accept"\n')


PLACES = {"s3": S3, "sftp": Sftp}
