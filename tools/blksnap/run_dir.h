/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The folder for what does not outlive a boot
 */
#ifndef RUN_DIR_H
#define RUN_DIR_H

const char *run_dir(void);
int run_dir_make(const char *dir);

#endif /* RUN_DIR_H */
