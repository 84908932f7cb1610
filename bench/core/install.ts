import { spawnSync } from 'node:child_process'

/** Installs a Debian package if its program is missing. */
export function install(name: string, program: string): void {
  if (spawnSync('sh', ['-c', `command -v ${program}`]).status === 0) return
  for (const args of [['update'], ['install', '-y', '--no-install-recommends', name]]) {
    const { status, stderr } = spawnSync('apt-get', args, { encoding: 'utf8', timeout: 300_000 })
    if (status !== 0) throw new Error(`Cannot install ${name}; run \`apt-get install ${name}\`. ${stderr}`)
  }
}
