"""Programs as targets."""

from .harness import Scenario, table


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
        proxy, client = self.front("/no/such/program")
        client.expect_closed()
        self.assertRegex(proxy.wait_closed(), "/no/such/program.*No such file")
