/* A look at the ELF header (elf(5)). The dynamic linker trusts files: of one that was cut off in the middle it maps
 * pages that are not there, and the process dies of SIGBUS. */
#include "dylib.h"

#include <fcntl.h>
#include <link.h>
#include <string.h>
#include <unistd.h>

/** The header of the program itself, which every library has to agree with. */
static bool own_header(ElfW(Ehdr) * header)
{
	int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	bool whole = read(fd, header, sizeof(*header)) == (ssize_t)sizeof(*header);
	close(fd);
	return whole;
}

static int wrong(struct cp_error *error, const char *words)
{
	return cp_error_set(error, CP_EINVAL, NULL, "%s", words);
}

static int check_machine(const ElfW(Ehdr) * header, struct cp_error *error)
{
	ElfW(Ehdr) own;
	if (!own_header(&own))
		return CP_OK; /* the dynamic linker will find out */
	if (header->e_ident[EI_CLASS] != own.e_ident[EI_CLASS])
		return wrong(error, "it is a library for another word size (32 or 64 bits) than this program's");
	if (header->e_ident[EI_DATA] == own.e_ident[EI_DATA] && header->e_machine == own.e_machine)
		return CP_OK;
	return cp_error_set(error, CP_EINVAL, NULL,
						"it is a library for another processor (ELF machine %u, this program's is %u)",
						header->e_machine, own.e_machine);
}

static bool is_inside(const struct bytes *bytes, uint64_t offset, uint64_t length)
{
	return offset <= bytes->size && length <= bytes->size - offset;
}

static int check_segments(const struct bytes *bytes, const ElfW(Ehdr) * header, struct cp_error *error)
{
	static const char cut[] = "it is cut off: parts that its header names are behind its end";
	if (header->e_phentsize != sizeof(ElfW(Phdr)) ||
		!is_inside(bytes, header->e_phoff, (uint64_t)header->e_phnum * sizeof(ElfW(Phdr))))
		return wrong(error, cut);
	for (unsigned i = 0; i < header->e_phnum; i++) {
		ElfW(Phdr) segment;
		memcpy(&segment, bytes->at + header->e_phoff + i * sizeof(segment), sizeof(segment));
		if (segment.p_type != PT_NULL && !is_inside(bytes, segment.p_offset, segment.p_filesz))
			return wrong(error, cut);
	}
	return CP_OK;
}

int elf_check(const struct bytes *bytes, struct cp_error *error)
{
	ElfW(Ehdr) header;
	if (bytes->size < SELFMAG || memcmp(bytes->at, ELFMAG, SELFMAG) != 0)
		return wrong(error, "it is no shared library (no ELF file)");
	if (bytes->size < sizeof(header))
		return wrong(error, "it is cut off in the middle of its header");
	memcpy(&header, bytes->at, sizeof(header));
	int result = check_machine(&header, error);
	if (result != CP_OK)
		return result;
	if (header.e_type != ET_DYN)
		return wrong(error, "it is an ELF file, but no shared library (an object file or a program?)");
	return check_segments(bytes, &header, error);
}
