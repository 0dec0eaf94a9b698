// SPDX-License-Identifier: GPL-2.0
/*
 * Does the kernel load signed modules only?
 *
 * It does if it was told so, or if it is locked down, as it is after Secure Boot.
 */
#include <stdio.h>
#include <string.h>

#include "signing.h"

/* True if the first line of a file has @text in it; false if it cannot be read. */
static bool file_says(const char *path, const char *text)
{
	FILE *file = fopen(path, "r");
	char line[128];
	bool found;

	if (!file)
		return false;
	found = fgets(line, sizeof(line), file) && strstr(line, text);
	fclose(file);
	return found;
}

/**
 * signing_is_enforced() - find out whether modules have to be signed
 *
 * Return: true if they have to be; false if not, or if that cannot be found out.
 */
bool signing_is_enforced(void)
{
	static const char lockdown[] = "/sys/kernel/security/lockdown";

	return file_says("/sys/module/module/parameters/sig_enforce", "Y") ||
	       file_says(lockdown, "[integrity]") ||
	       file_says(lockdown, "[confidentiality]");
}
