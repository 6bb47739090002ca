/* What lies beside a library that needs it. */
int neighbour(void);
__attribute__((visibility("default"))) int neighbour(void)
{
	return 42;
}
