/*
 * filing: how fast the system calls of the Maildir backend are by themselves, with no server, no protocol and no
 * interpreter around them. Threads take turns of nothing but: write a batch of files into tmp, sync them, link and
 * rename them into new, sync the directories. See README.md.
 *
 *   filing [-n threads] [-b messages of a batch] [-r mailboxes of a message] [-l octets] [-u mailboxes] [-t seconds]
 *          [-S: syncfs in place of an fsync for each] DIRECTORY
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { NAME = 96, MICROSECONDS = 1000000, WARMUP = MICROSECONDS / 2 };

static int threads = 2, batch = 5, recipients = 1, octets = 4096, mailboxes = 100, together = 0;
static double seconds = 2;
static int *tmps, *news;
static char *content;
static atomic_long filed, numbers;
static atomic_bool is_over;

static void fail(const char *what)
{
    perror(what);
    exit(1);
}

static double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static void write_whole(int file)
{
    for (ssize_t done = 0, n; done < octets; done += n)
        if ((n = write(file, content + done, octets - done)) < 0)
            fail("write");
}

static void wait_for_disk(const int *descriptors, int count)
{
    if (together && count > 1) {
        if (syncfs(descriptors[0]) || fsync(descriptors[0]))
            fail("syncfs");
        return;
    }
    for (int i = 0; i < count; i++)
        if (fsync(descriptors[i]))
            fail("fsync");
}

static void *work(void *unused)
{
    int files[batch], first[batch], directories[batch * recipients];
    char names[batch][NAME], final[batch][NAME + 16];

    (void)unused;
    while (!is_over) {
        int count = 0;
        for (int i = 0; i < batch; i++) {
            long number = atomic_fetch_add(&numbers, 1);
            first[i] = number * recipients % mailboxes;
            snprintf(names[i], NAME, "%ld.M%dP%dQ%ld.bench", (long)time(NULL), i, (int)getpid(), number);
            snprintf(final[i], sizeof final[i], "%s,S=%d", names[i], octets);
            files[i] = openat(tmps[first[i]], names[i], O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC | O_NOFOLLOW, 0600);
            if (files[i] < 0)
                fail("open");
            write_whole(files[i]);
        }
        if (!together && batch > 1)
            for (int i = 0; i < batch; i++)
                posix_fadvise(files[i], 0, 0, POSIX_FADV_DONTNEED);
        wait_for_disk(files, batch);
        for (int i = 0; i < batch; i++) {
            close(files[i]);
            for (int r = 1; r < recipients; r++)
                if (linkat(tmps[first[i]], names[i], news[(first[i] + r) % mailboxes], final[i], 0))
                    fail("link");
            if (renameat(tmps[first[i]], names[i], news[first[i]], final[i]))
                fail("rename");
            for (int r = 0; r < recipients; r++) {
                int directory = news[(first[i] + r) % mailboxes], k = 0;
                while (k < count && directories[k] != directory)
                    k++;
                if (k == count)
                    directories[count++] = directory;
            }
        }
        wait_for_disk(directories, count);
        atomic_fetch_add(&filed, batch);
    }
    return NULL;
}

static int opened(const char *mailbox, const char *folder)
{
    char path[64];
    int directory;

    snprintf(path, sizeof path, "%s%s", mailbox, folder);
    mkdir(path, 0700);
    directory = open(path, O_RDONLY | O_DIRECTORY);
    if (directory < 0)
        fail(path);
    return directory;
}

int main(int argc, char **argv)
{
    int option;

    while ((option = getopt(argc, argv, "n:b:r:l:u:t:S")) != -1)
        switch (option) {
        case 'n': threads = atoi(optarg); break;
        case 'b': batch = atoi(optarg); break;
        case 'r': recipients = atoi(optarg); break;
        case 'l': octets = atoi(optarg); break;
        case 'u': mailboxes = atoi(optarg); break;
        case 't': seconds = atof(optarg); break;
        case 'S': together = 1; break;
        default: return 2;
        }
    if (optind != argc - 1 || threads < 1 || batch < 1 || recipients < 1 || recipients > mailboxes || octets < 0)
        return 2;
    if (chdir(argv[optind]))
        fail(argv[optind]);
    tmps = calloc(mailboxes, sizeof *tmps);
    news = calloc(mailboxes, sizeof *news);
    content = malloc(octets + 1);
    memset(content, 'x', octets);
    for (int i = 0; i < mailboxes; i++) {
        char mailbox[32];
        snprintf(mailbox, sizeof mailbox, "u%d", i);
        mkdir(mailbox, 0700);
        tmps[i] = opened(mailbox, "/tmp");
        news[i] = opened(mailbox, "/new");
    }
    sync();

    pthread_t ids[threads];
    for (int i = 0; i < threads; i++)
        if (pthread_create(&ids[i], NULL, work, NULL))
            fail("thread");
    usleep(WARMUP);
    long before = filed;
    double began = now();
    usleep(seconds * MICROSECONDS);
    long messages = filed - before;
    double took = now() - began;
    is_over = 1;
    for (int i = 0; i < threads; i++)
        pthread_join(ids[i], NULL);
    printf("{\"messages\": %ld, \"seconds\": %f}\n", messages, took);
    return 0;
}
