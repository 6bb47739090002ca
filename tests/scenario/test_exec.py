"""Programs as targets."""

import os
import shutil
import unittest

from .harness import PROGRAM, Process, Scenario, table


class Exec(Scenario):
    def front(self, command):
        proxy = self.connpipe(table({"tcp:$4:0": "exec:" + command}))
        return proxy, self.client(proxy.port())

    def test_input_that_nobody_reads_is_no_error(self):
        """As in a shell: `date` does not care what is sent to it."""
        proxy, client = self.front("sh -c 'read line; echo $line'")
        client.send(b"first\n" + b"x" * 300_000)
        client.shutdown()
        self.assertEqual(client.receive_all(), b"first\n")
        self.assertRegex(proxy.wait_closed(), "done$")

    def test_everything_goes_through(self):
        _, client = self.front("cat")
        data = bytes(range(256)) * 4000
        client.send(data[:1000])
        client.expect(data[:1000])
        client.send(data[1000:100_000])
        client.expect(data[1000:100_000])
        client.shutdown()
        client.expect_end()

    def test_a_program_that_is_not_there(self):
        proxy = self.connpipe(table({"tcp:$4:0": "exec:/no/such/program"}))
        self.refused(proxy.port())
        self.assertRegex(proxy.wait_closed(), "/no/such/program.*No such file")

    @unittest.skipUnless(os.getuid() == 0 and shutil.which("setpriv"), "only root can give capabilities, by setpriv")
    def test_capabilities_of_the_service_are_not_inherited(self):
        """As contrib/connpipe.service starts it: another user, with the right to bind low ports."""
        give = ["--inh-caps", "+net_bind_service", "--ambient-caps", "+net_bind_service"]
        command = [PROGRAM, "pipe", "tcp:$4:0", "exec:grep CapEff /proc/self/status"]
        process = Process(["setpriv", "--reuid", "65534", "--clear-groups", *give, *command])
        self.processes.append(process)
        self.keep(process, process.stop)
        port = int(process.wait_log(r"bound tcp:127\.0\.0\.1:(\d+)")[1])
        with open("/proc/%d/status" % process.process.pid, encoding="utf-8") as file:
            self.assertRegex(file.read(), r"CapEff:\t0*400\n")
        process.wait_log("generation 1 is in use")
        self.assertRegex(self.client(port).receive_all(), rb"CapEff:\t0+\n")
