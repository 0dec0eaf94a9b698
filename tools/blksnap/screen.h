/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A terminal that shows one page after the other, in the same place
 *
 * What is printed between screen_begin() and screen_end() is a page.  If the standard
 * output is no terminal, pages are printed one below the other.
 */
#ifndef SCREEN_H
#define SCREEN_H

#include <stdbool.h>

void screen_open(bool may_draw);
void screen_begin(void);
void screen_end(void);
void screen_separate(void);
bool screen_wait(void);
void screen_close(void);

#endif /* SCREEN_H */
