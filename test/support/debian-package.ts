import { spawnSync } from 'node:child_process'

const aptTimeoutMs = 300_000

/**
 * Installs a Debian package if it is missing. The installation needs root.
 *
 * @param isInstalled returns true if the file that the caller needs exists
 * @throws Error with the command that installs the package by hand
 */
export function installPackage(name: string, isInstalled: () => boolean): void {
  if (isInstalled()) return
  for (const args of [['update'], ['install', '-y', '--no-install-recommends', name]]) {
    const { status, stderr, error } = spawnSync('apt-get', args, { encoding: 'utf8', timeout: aptTimeoutMs })
    if (status === 0) continue
    const cause = error?.message ?? stderr.trim()
    throw new Error(`Could not install ${name}; run as root: apt-get install ${name} (${cause})`)
  }
}

/** Returns whether the shell finds a program. */
export const hasProgram = (name: string): boolean => spawnSync('sh', ['-c', `command -v ${name}`]).status === 0
