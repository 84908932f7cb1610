import { spawn } from 'node:child_process'
import { readFile } from 'node:fs/promises'
import { EmbeddedPostgresError } from './embedded-error.ts'

/** The user that runs the server. */
export interface Account {
  uid: number
  gid: number
}

/** What a program prints, run in a directory that everybody can enter; rejects with it when the program fails. */
export function capture(program: string, args: string[], account?: Account): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, {
      ...account,
      cwd: '/',
      env: { LC_ALL: 'C' },
      stdio: ['ignore', 'pipe', 'pipe'],
      // A Ctrl-C would break initdb off; whoever asked for the server stops it when it is there.
      detached: true,
    })
    let printed = ''
    for (const stream of [child.stdout, child.stderr]) {
      stream.on('data', (chunk) => {
        printed += chunk
      })
    }
    child.on('error', reject)
    child.on('close', (code, signal) => {
      if (code === 0) resolve(printed)
      else if (signal) reject(new EmbeddedPostgresError('interrupted', `${signal} ended ${program}: start again.`))
      else reject(new Error(printed || `${program} exited ${code}`))
    })
  })
}

/** Tells a process from a later one with the same pid; undefined when it has ended, even if nobody has reaped it. */
export async function runningSince(pid: number): Promise<string | undefined> {
  if (!pid) return undefined
  if (process.platform === 'linux') {
    const stat = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => undefined)
    // proc_pid_stat(5): the name before the last parenthesis may hold anything; then state, and 19 further on starttime.
    const fields = stat?.slice(stat.lastIndexOf(')') + 2).split(' ')
    return fields?.[0] === 'Z' ? undefined : fields?.[19]
  }
  const printed = await capture('/bin/ps', ['-o', 'stat=,lstart=', '-p', String(pid)]).catch(() => '')
  const [state, ...started] = printed.trim().split(/\s+/)
  return !state || state.startsWith('Z') ? undefined : started.join('-')
}
