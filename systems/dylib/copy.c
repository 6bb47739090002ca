/* The private copy: a sealed file in memory. It needs no place on a disk, nobody can change it under the mapping, and
 * it is gone with its last mapping, however the process ends. */
#include "dylib.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

static int file_error(struct cp_error *error, const char *what)
{
	return cp_error_set(error, cp_err_from_errno(errno), NULL, "%s: %s", what, strerror(errno));
}

/** Open for reading; a FIFO is found out, not waited for. */
static int open_file(const char *path, struct stat *stat, struct cp_error *error)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0 || fstat(fd, stat) < 0) {
		if (fd >= 0)
			close(fd);
		file_error(error, "open");
		return -1;
	}
	if (S_ISREG(stat->st_mode))
		return fd;
	close(fd);
	cp_error_set(error, CP_EINVAL, NULL, S_ISDIR(stat->st_mode) ? "it is a directory" : "it is not a regular file");
	return -1;
}

/** Somebody may be writing it just now: half a library must not get far. */
static bool has_changed(int fd, const struct stat *before)
{
	struct stat now;
	return fstat(fd, &now) < 0 || now.st_size != before->st_size || now.st_mtim.tv_sec != before->st_mtim.tv_sec ||
		   now.st_mtim.tv_nsec != before->st_mtim.tv_nsec;
}

static int copy_bytes(int from, int to, const struct stat *stat, struct cp_error *error)
{
	off_t left = stat->st_size;
	while (left > 0) {
		ssize_t count = sendfile(to, from, NULL, (size_t)left);
		if (count < 0 && errno == EINTR)
			continue;
		if (count < 0)
			return file_error(error, "copy");
		if (count == 0)
			break;
		left -= count;
	}
	if (left > 0 || has_changed(from, stat))
		return cp_error_set(error, CP_EIO, NULL, "it changed while it was read: is it being written?");
	return CP_OK;
}

static int seal(int fd, struct cp_error *error)
{
	int seals = F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL;
	return fcntl(fd, F_ADD_SEALS, seals) < 0 ? file_error(error, "seal the copy") : CP_OK;
}

/** A file in memory, whose name shows in /proc/PID/maps. @return its descriptor, or -1 with `error` filled */
static int make_copy(const char *path, int from, const struct stat *stat, struct cp_error *error)
{
	const char *base = strrchr(path, '/');
	char name[200];
	size_t length = strnlen(base ? base + 1 : path, sizeof(name) - 1);
	memcpy(name, base ? base + 1 : path, length);
	name[length] = '\0';
	int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (fd < 0) {
		file_error(error, "make a file in memory");
		return -1;
	}
	if (copy_bytes(from, fd, stat, error) == CP_OK && seal(fd, error) == CP_OK)
		return fd;
	close(fd);
	return -1;
}

int copy_file(const char *path, struct cp_error *error)
{
	struct stat stat;
	int from = open_file(path, &stat, error);
	if (from < 0)
		return -1;
	int fd = make_copy(path, from, &stat, error);
	close(from);
	return fd;
}

/* ---- Its bytes ---------------------------------------------------------------------------------------------- */

bool bytes_map(int fd, struct bytes *bytes, struct cp_error *error)
{
	struct stat stat;
	*bytes = (struct bytes){"", 0};
	if (fstat(fd, &stat) < 0) {
		file_error(error, "look at the copy");
		return false;
	}
	if (stat.st_size == 0)
		return true;
	void *at = mmap(NULL, (size_t)stat.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	if (at == MAP_FAILED) {
		file_error(error, "map the copy");
		return false;
	}
	*bytes = (struct bytes){at, (size_t)stat.st_size};
	return true;
}

void bytes_unmap(struct bytes *bytes)
{
	if (bytes->size > 0)
		munmap((void *)(uintptr_t)bytes->at, bytes->size);
	*bytes = (struct bytes){"", 0};
}

bool bytes_contain(const struct bytes *bytes, const char *text)
{
	return memmem(bytes->at, bytes->size, text, strlen(text)) != NULL;
}
