/* The configuration: [connpipe.proxy], profiles, and the arguments that addresses name them by. */
#include "proxy_fixture.h"

#include "../../systems/proxy/proxy.h"

TestSuite(proxy_options, .init = fixture_start, .fini = fixture_stop, .timeout = 60);

static const struct proxy_options *options_of(const char *address)
{
	const struct cp_layer *layer = &address_of(address)->layers[0];
	return proxy_find(layer->converter->arg, layer->argument);
}

static bool trusts(const struct proxy_options *options, const char *ip)
{
	struct cp_peer peer = peer_of(ip, 1);
	return proxy_options_trust(options, &peer);
}

/* ---- What is set -------------------------------------------------------------------------------------------- */

Test(proxy_options, without_settings)
{
	load("");
	const struct proxy_options *options = options_of("proxy+tcp:$4:80");
	cr_expect_not(options->optional);
	cr_expect_eq(options->version, 0);
	cr_expect_eq(options->length, 4096);
	cr_expect_eq(options->wait_ms, 3000);
	cr_expect_eq(options->sends, 0);
	cr_expect(trusts(options, "203.0.113.1"));
	cr_expect(trusts(options, ""));
	cr_expect(proxy_options_trust(options, NULL));
	cr_expect_eq(options_of("proxy(v1)+tcp:$4:80")->version, 1);
	cr_expect_eq(options_of("proxy(v2)+tcp:$4:80")->version, 2);
}

Test(proxy_options, what_is_set_for_all)
{
	load("[connpipe.proxy]\ntrusted = [\"10.0.0.0/8\", \"2001:db8::1\"]\nwait = \"0s\"\nlength = \"1KiB\"\n"
		 "tlvs = [\"alpn\", \"crc32c\"]\n");
	static const char *const addresses[] = {"proxy+tcp:$4:80", "proxy(v2)+tcp:$4:80", "proxy(optional)+tcp:$4:80"};
	for (int i = 0; i < 3; i++) {
		const struct proxy_options *options = options_of(addresses[i]);
		cr_expect(trusts(options, "10.255.0.1"));
		cr_expect(trusts(options, "2001:db8::1"));
		cr_expect_not(trusts(options, "11.0.0.1"));
		cr_expect_not(trusts(options, "2001:db8::2"));
		cr_expect_not(trusts(options, ""));
		cr_expect_not(proxy_options_trust(options, NULL));
		cr_expect_eq(options->wait_ms, 0);
		cr_expect_eq(options->length, 1024);
		cr_expect_eq(options->sends, 1u << PROXY_SEND_ALPN | 1u << PROXY_SEND_CRC32C);
		cr_expect_eq(options->optional, i == 2);
	}
}

Test(proxy_options, a_profile_inherits_what_it_does_not_set)
{
	load("[connpipe.proxy]\ntrusted = [\"10.0.0.0/8\", \"unix\"]\nlength = 500\ntlvs = [\"ssl\"]\noptional = true\n"
		 "[edge]\ntype = \"proxy\"\ntrusted = [\"192.0.2.1\"]\ntlvs = []\n"
		 "[inner]\ntype = \"proxy\"\noptional = false\nversion = \"v2\"\n"
		 "[same]\ntype = \"proxy\"\nversion = \"any\"\n");
	const struct proxy_options *edge = options_of("proxy(edge)+tcp:$4:80");
	cr_expect_not(trusts(edge, "10.0.0.1"), "a list replaces the other");
	cr_expect_not(trusts(edge, ""));
	cr_expect(trusts(edge, "192.0.2.1"));
	cr_expect(edge->optional);
	cr_expect_eq(edge->sends, 0);
	cr_expect_eq(edge->length, 500);
	const struct proxy_options *inner = options_of("proxy(inner)+tcp:$4:80");
	cr_expect(trusts(inner, "10.0.0.1"));
	cr_expect(trusts(inner, ""));
	cr_expect_not(inner->optional);
	cr_expect_eq(inner->version, 2);
	cr_expect_eq(inner->sends, 1u << PROXY_SEND_SSL);
	cr_expect_eq(options_of("proxy(same)+tcp:$4:80")->version, 0);
}

Test(proxy_options, the_address_keeps_its_argument)
{
	char text[64];
	load("[edge]\ntype = \"proxy\"\n");
	cp_address_print(address_of("proxy(edge)+tcp:$4:80"), text, sizeof(text));
	cr_expect_str_eq(text, "proxy(edge)+tcp:127.0.0.1:80");
}

/* ---- What is wrong ------------------------------------------------------------------------------------------ */

struct wrong {
	const char *text, *errors;
};

static const struct wrong wrong[] = {
	{"[connpipe.proxy]\ntrusted = \"10.0.0.0/8\"\n",
	 "c.toml:2:11: expected an array, found the string \"10.0.0.0/8\"\n"},
	{"[connpipe.proxy]\ntrusted = [\"10.0.0.1/8\", \"$4\", 4]\n",
	 "c.toml:2:12: expected a block of IP addresses such as \"10.0.0.0/8\" (with zeros behind the prefix), an IP "
	 "address, or \"unix\", found the string \"10.0.0.1/8\"\n"
	 "c.toml:2:26: expected a block of IP addresses such as \"10.0.0.0/8\" (with zeros behind the prefix), an IP "
	 "address, or \"unix\", found the string \"$4\"\n"
	 "c.toml:2:32: expected a string, found the integer 4\n"},
	{"[connpipe.proxy]\ntrusted = []\n",
	 "c.toml:2:11: expected at least one source, found none: nobody could send a header\n"},
	{"[connpipe.proxy]\noptional = true\n",
	 "c.toml:2:12: `optional` needs a list of trusted sources, as anybody else could send a header, too: add trusted = "
	 "[\"10.0.0.0/8\"]\n"},
	{"[edge]\ntype = \"proxy\"\noptional = true\n",
	 "c.toml:3:12: `optional` needs a list of trusted sources, as anybody else could send a header, too: add trusted = "
	 "[\"10.0.0.0/8\"]\n"},
	{"[connpipe.proxy]\nlength = 231\n", "c.toml:2:10: expected a size from 232 to 65551 bytes, found 231\n"},
	{"[connpipe.proxy]\nlength = \"65KiB\"\n", "c.toml:2:10: expected a size from 232 to 65551 bytes, found 66560\n"},
	{"[edge]\ntype = \"proxy\"\nversion = \"v1\"\ntlvs = [\"alpn\"]\n",
	 "c.toml:4:8: version 1 has no TLVs: leave out `tlvs`, or set version = \"v2\"\n"},
	{"[connpipe.proxy]\ntrustde = [\"10.0.0.0/8\"]\n",
	 "c.toml:2:1: unknown key \"trustde\", did you mean \"trusted\"?\n"},
	{"[v1]\ntype = \"proxy\"\n",
	 "c.toml:1:2: system \"v1\": a profile cannot have the name \"v1\": proxy(v1) means something already\n"},
};

Test(proxy_options, errors_say_where_and_what_is_expected)
{
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		char *reported = NULL;
		size_t length;
		load_any(wrong[i].text);
		FILE *file = open_memstream(&reported, &length);
		report_print(&fixture.report, file, "");
		fclose(file);
		cr_expect_null(fixture.generation, "%s", wrong[i].text);
		cr_expect_str_eq(reported, wrong[i].errors, "%s", reported);
		free(reported);
		report_deinit(&fixture.report);
		fixture.report = (struct report){0};
	}
}

static void expect_wrong_address(const char *text, const char *message)
{
	const struct cp_address *address;
	struct cp_error error = {0};
	cr_expect_eq(cp_address_parse(fixture.generation->scope, fixture.arena, text, strlen(text), 0, &address, &error),
				 CP_EINVAL, "%s", text);
	cr_expect_str_eq(error.message, message, "%s", error.message);
}

Test(proxy_options, arguments_that_mean_nothing)
{
	load("[edge]\ntype = \"proxy\"\n[other]\ntype = \"table\"\nroutes = {}\n");
	expect_wrong_address(
		"proxy(egde)+tcp:$4:80",
		"expected v1, v2, optional or a system of type \"proxy\", found \"egde\"; did you mean \"edge\"?");
	expect_wrong_address("proxy(other)+tcp:$4:80",
						 "expected v1, v2, optional or a system of type \"proxy\", found \"other\"");
	expect_wrong_address(
		"proxy(optional)+tcp:$4:80",
		"proxy(optional) needs a list of trusted sources, as anybody else could send a header, too: add "
		"trusted = [\"10.0.0.0/8\"] to [connpipe.proxy], or use a profile that has one");
}
