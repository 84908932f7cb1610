import { readFileSync } from 'node:fs'

/** sysconf(_SC_CLK_TCK), 100 on every Linux. */
const ticksPerSecond = 100

// Returns the fields of /proc/<pid>/stat after the process name (proc(5)). The name may contain spaces. Index 0 is
// field 3. The fields 14 to 17 are utime, stime, cutime and cstime.
function statOf(pid: number): string[] | undefined {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, 'utf8')
    return text.slice(text.lastIndexOf(')') + 2).split(' ')
  } catch {
    // The process has exited.
    return undefined
  }
}

/** Returns the CPU time of a process, in seconds. */
export function cpuOf(pid: number): number {
  const stat = statOf(pid)
  return stat ? (Number(stat[11]) + Number(stat[12])) / ticksPerSecond : 0
}

/**
 * Returns two times of the main thread of a process, in seconds: how long it ran, and how long it waited for a
 * processor (/proc/…/schedstat; Documentation/scheduler/sched-stats.rst of Linux).
 */
export function threadOf(pid: number): { computed: number; waited: number } {
  const nanoseconds = readFileSync(`/proc/${pid}/task/${pid}/schedstat`, 'utf8').split(' ').map(Number)
  const [computed, waited] = nanoseconds as [number, number]
  return { computed: computed / 1e9, waited: waited / 1e9 }
}

/** Returns the CPU time of a process and its children, in seconds. Includes children that have exited. */
export function cpuOfTree(pid: number): number {
  const own = statOf(pid)
  const exited = own ? (Number(own[13]) + Number(own[14])) / ticksPerSecond : 0
  return childrenOf(pid).reduce((sum, child) => sum + cpuOf(child), cpuOf(pid) + exited)
}

/** Returns the resident set size of a process in bytes (proc(5)). */
export function memoryOf(pid: number): number {
  const [, kilobytes] = readFileSync(`/proc/${pid}/status`, 'utf8').match(/^VmRSS:\s+(\d+) kB$/m) ?? []
  if (kilobytes === undefined) throw new Error(`/proc/${pid}/status has no VmRSS`)
  return Number(kilobytes) * 1024
}

/** Returns the ids of the child processes of a process. */
export function childrenOf(pid: number): number[] {
  try {
    return readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').split(' ').filter(Boolean).map(Number)
  } catch {
    return []
  }
}
