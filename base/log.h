/*
 * One log line per event, to standard error: time, level, part, text, then key=value pairs that
 * the caller formats itself. Control characters are escaped, so that nobody's input can forge a
 * line. Programs log, libraries do not; secrets never do (see base/secret.h). Any thread.
 */
#ifndef BASE_LOG_H
#define BASE_LOG_H

enum log_level { LOG_LEVEL_DEBUG, LOG_LEVEL_INFO, LOG_LEVEL_WARN, LOG_LEVEL_ERROR };

void log_init(const char *part, enum log_level least); /* part must outlive the program */
/* "debug", "info", "warn", "error"; -1: none of these. */
int log_level_parse(const char *name);
void log_line(enum log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));

#define log_debug(...) log_line(LOG_LEVEL_DEBUG, __VA_ARGS__)
#define log_info(...) log_line(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_warn(...) log_line(LOG_LEVEL_WARN, __VA_ARGS__)
#define log_error(...) log_line(LOG_LEVEL_ERROR, __VA_ARGS__)

#endif
