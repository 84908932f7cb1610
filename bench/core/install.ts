import { spawnSync } from 'node:child_process'

/** Installs a Debian package unless its program is there. */
export function install(name: string, program: string): void {
  if (spawnSync('sh', ['-c', `command -v ${program}`]).status === 0) return
  for (const args of [['update'], ['install', '-y', '--no-install-recommends', name]]) {
    const { status, stderr } = spawnSync('apt-get', args, { encoding: 'utf8', timeout: 300_000 })
    if (status !== 0) throw new Error(`${name} could not be installed: run \`apt-get install ${name}\` (${stderr})`)
  }
}
