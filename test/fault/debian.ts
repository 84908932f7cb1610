import { spawnSync } from 'node:child_process'

/** Installs a Debian package unless it is installed already. */
export function installPackage(name: string, isInstalled: () => boolean): void {
  if (isInstalled()) return
  for (const args of [['update'], ['install', '-y', '--no-install-recommends', name]]) {
    const { status, stderr } = spawnSync('apt-get', args, { encoding: 'utf8', timeout: 300_000 })
    if (status !== 0) throw new Error(`Could not install ${name}: run \`apt-get install ${name}\` (${stderr})`)
  }
}
