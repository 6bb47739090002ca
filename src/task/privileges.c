#include "main_state.h"

#include <connpipe/log.h>

#include <errno.h>
#include <grp.h>
#include <linux/capability.h>
#include <pwd.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

void privileges_raise_limits(const struct process_settings *settings)
{
	struct rlimit limit;
	if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
		return;
	if (limit.rlim_cur < limit.rlim_max) {
		limit.rlim_cur = limit.rlim_max;
		setrlimit(RLIMIT_NOFILE, &limit);
	}
	/* Sessions are left out: their limit is there whether anything of udp is bound or not. */
	if (limit.rlim_cur < (rlim_t)settings->limits.connections * 2)
		cp_log(CP_WARN, "main",
			   "the limit of %llu file descriptors is less than twice limits.connections = %u: raise it (ulimit -n, "
			   "LimitNOFILE=) or lower that",
			   (unsigned long long)limit.rlim_cur, (unsigned)settings->limits.connections);
}

/** Keep CAP_NET_BIND_SERVICE over the change of user; without root it was never there, and that is no error. */
static int keep_bind_capability(void)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[2] = {{0}};
	data[0].permitted = data[0].effective = 1u << CAP_NET_BIND_SERVICE; /* not inheritable: children get nothing */
	return (int)syscall(SYS_capset, &header, data);
}

int privileges_drop(const char *user, struct cp_error *error)
{
	/* A service manager that gives capabilities does so by the ambient set, which children would inherit. */
	prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
	if (!user)
		return CP_OK;
	errno = 0;
	const struct passwd *entry = getpwnam(user);
	if (!entry)
		return cp_error_set(error, CP_ENOTFOUND, NULL, "user = \"%s\": there is no such user", user);
	if (entry->pw_uid == geteuid())
		return CP_OK;
	prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0);
	if (initgroups(user, entry->pw_gid) < 0 || setgid(entry->pw_gid) < 0 || setuid(entry->pw_uid) < 0)
		return cp_error_set(error, CP_EPERM, NULL, "cannot become the user %s: %s", user, strerror(errno));
	if (keep_bind_capability() < 0)
		return cp_error_set(error, CP_EPERM, NULL, "cannot keep CAP_NET_BIND_SERVICE: %s", strerror(errno));
	prctl(PR_SET_KEEPCAPS, 0, 0, 0, 0);
	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	return CP_OK;
}
