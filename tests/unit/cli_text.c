/* Texts that the command line makes: tables, numbers for people, the configuration behind `pipe` and `connect`. */
#include "cli/forward.h"
#include "cli/text_table.h"

#include <criterion/criterion.h>

#include <stdlib.h>
#include <string.h>

static char *printed(const struct text_table *table)
{
	char *text;
	size_t length;
	FILE *file = open_memstream(&text, &length);

	table_print(table, file, "> ");
	fclose(file);
	return text;
}

Test(cli_text, columns_are_as_wide_as_their_widest_cell)
{
	struct text_table table;
	char *text;

	table_init(&table, 3);
	for (int i = 0; i < 9; i++)
		table_cell(&table, ((const char *const[]){"a", "…", "c", "long", "b", "", "", "", "x"})[i]);
	text = printed(&table);
	cr_assert_str_eq(text, "> a     …  c\n> long  b\n>          x\n");
	free(text);
	table_deinit(&table);
}

Test(cli_text, a_table_grows)
{
	struct text_table table;
	char *text;

	table_init(&table, 1);
	for (int i = 0; i < 1000; i++)
		table_cellf(&table, "%d", i);
	text = printed(&table);
	cr_assert_str_eq(text + strlen(text) - 6, "> 999\n");
	free(text);
	table_deinit(&table);
}

Test(cli_text, control_characters_are_shown)
{
	char *text;
	size_t length;
	FILE *file = open_memstream(&text, &length);

	print_harmless(file, "a\x1b[2J\n\x7f\xc2\x9b"
						 "é");
	fclose(file);
	cr_assert_str_eq(text, "a\\x1b[2J\\x0a\\x7f\\xc2\\x9bé");
	free(text);
}

Test(cli_text, durations)
{
	static const struct {
		uint64_t ms;
		const char *text;
	} cases[] = {{0, "0ms"},          {999, "999ms"},
				 {1000, "1.0s"},      {59999, "59.9s"},
				 {60000, "1m 0s"},    {3599999, "59m 59s"},
				 {3600000, "1h 0m"},  {86399999, "23h 59m"},
				 {86400000, "1d 0h"}, {UINT64_MAX, "213503982334d 14h"}};
	char buffer[HUMAN_TEXT];

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		cr_assert_str_eq(human_duration(cases[i].ms, buffer), cases[i].text);
}

Test(cli_text, bytes)
{
	static const struct {
		uint64_t bytes;
		const char *text;
	} cases[] = {{0, "0 B"},           {1023, "1023 B"},     {1024, "1.0 KiB"},       {1536, "1.5 KiB"},
				 {1048575, "1.0 MiB"}, {1 << 30, "1.0 GiB"}, {UINT64_MAX, "16.0 EiB"}};
	char buffer[HUMAN_TEXT];

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		cr_assert_str_eq(human_bytes(cases[i].bytes, buffer), cases[i].text);
}

Test(cli_text, addresses_cannot_leave_their_strings)
{
	char *text = forward_config("a\"b", "c\\d\ne\x7f", "workers = 1");

	cr_assert_str_eq(text, "[connpipe]\nadmin = \"off\"\nworkers = 1\n[pipe]\ntype = \"table\"\n[pipe.routes]\n"
						   "\"a\\\"b\" = \"c\\\\d\\u000Ae\\u007F\"\n");
	free(text);
}
