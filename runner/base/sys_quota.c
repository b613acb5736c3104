/* sys_quota.c - what the user and the group may still write where a path lies.
 *
 * Quotas of a project need no asking: file systems that have them show them as free space. Those of
 * a file server are the server's own affair: the kernel here cannot tell them. */
#include "base/sys.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/quota.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <unistd.h>

enum { QUOTACTL_FD = 443, BLOCK = 1024 };

/* File systems whose limits are kept elsewhere, by the number that statfs gives. */
static const struct {
    uint32_t magic;
    const char *what;
} remote[] = {{0x6969, "NFS: `quota -s` asks its server"},
              {0x0bd00bd0, "Lustre: `lfs quota -h -u $USER .` asks it"},
              {0x47504653, "GPFS: `mmlsquota` asks it"},
              {0x19830326, "BeeGFS: `beegfs-ctl --getquota` asks it"},
              {0x00c36400, "CephFS: `getfattr -n ceph.quota.max_bytes` asks it"},
              {0xff534d42, "CIFS: its server decides"},
              {0xfe534d42, "SMB: its server decides"},
              {0x65735546, "FUSE: its program decides"},
              {0x01021997, "9P: its server decides"}};

/* The device that a file system was mounted from; false when it is none. */
static bool find_device(dev_t number, char device[512])
{
    char line[4096], wanted[32], place[32];
    bool found = false;
    FILE *file = fopen("/proc/self/mountinfo", "re");
    snprintf(wanted, sizeof wanted, "%u:%u", major(number), minor(number));
    while (file && !found && fgets(line, sizeof line, file)) {
        const char *tail = strstr(line, " - ");
        if (!tail || sscanf(line, "%*s %*s %31s", place) != 1 || strcmp(place, wanted) != 0)
            continue;
        found = sscanf(tail, " - %*s %511s", device) == 1 && device[0] == '/';
    }
    if (file) fclose(file);
    return found;
}

/* 0 or errno. A kernel before 5.14 does not know the call by descriptor. */
static int ask(int fd, dev_t number, int type, unsigned id, struct dqblk *limits)
{
    char device[512];
    int command = QCMD(Q_GETQUOTA, type);
    memset(limits, 0, sizeof *limits);
    if (syscall(QUOTACTL_FD, fd, command, id, limits) == 0) return 0;
    if (errno != ENOSYS) return errno;
    if (!find_device(number, device)) return ENOSYS;
    return quotactl(command, device, (int)id, (char *)limits) == 0 ? 0 : errno;
}

static void take(const struct dqblk *limits, struct rp_sys_quota *quota)
{
    uint64_t most = limits->dqb_bhardlimit;
    if (most == 0 || (limits->dqb_bsoftlimit > 0 && limits->dqb_bsoftlimit < most))
        most = limits->dqb_bsoftlimit;
    if (most == 0) return;
    most *= BLOCK;
    uint64_t left = limits->dqb_curspace < most ? most - limits->dqb_curspace : 0;
    if (quota->kind != RP_SYS_QUOTA_LIMIT || left < quota->left) quota->left = left;
    quota->kind = RP_SYS_QUOTA_LIMIT;
}

static void set_unknown(struct rp_sys_quota *quota, const char *why)
{
    if (quota->kind == RP_SYS_QUOTA_NONE) quota->kind = RP_SYS_QUOTA_UNKNOWN;
    snprintf(quota->why, sizeof quota->why, "%s", why);
}

struct rp_sys_quota rp_sys_quota(const char *path)
{
    struct rp_sys_quota quota = {.kind = RP_SYS_QUOTA_NONE};
    struct statfs system;
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) != 0 || fstatfs(fd, &system) != 0) {
        set_unknown(&quota, strerror(errno));
    } else {
        for (size_t i = 0; i < RP_COUNT(remote); i++)
            if ((uint32_t)system.f_type == remote[i].magic) set_unknown(&quota, remote[i].what);
        /* New files belong to the group of a folder with the setgid bit. */
        gid_t group = st.st_mode & S_ISGID ? st.st_gid : getegid();
        const unsigned id[] = {[USRQUOTA] = geteuid(), [GRPQUOTA] = group};
        for (int type = USRQUOTA; type <= GRPQUOTA && quota.kind != RP_SYS_QUOTA_UNKNOWN; type++) {
            struct dqblk limits;
            int error = ask(fd, st.st_dev, type, id[type], &limits);
            if (error == 0)
                take(&limits, &quota);
            else if (error != ESRCH && error != ENOSYS && error != EOPNOTSUPP && error != ENOTBLK)
                set_unknown(&quota, strerror(error));
        }
    }
    if (fd >= 0) close(fd);
    return quota;
}
