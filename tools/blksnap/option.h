/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Arguments of options that several commands have
 *
 * Each function is the take() of a struct cmdline_option, and says what its
 * @to points to.
 */
#ifndef OPTION_H
#define OPTION_H

int option_text(const char *name, const char *text, void *to);
int option_count(const char *name, const char *text, void *to);
int option_point(const char *name, const char *text, void *to);
int option_rate(const char *name, const char *text, void *to);
int option_file_size(const char *name, const char *text, void *to);

#endif /* OPTION_H */
