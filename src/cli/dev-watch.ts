import { resolve as resolvePath } from 'node:path'
import { printable } from '../primitives/printable.ts'
import { type Dev, type DevEnd, runServers } from './dev-servers.ts'
import { printStep } from './dev-step.ts'
import { watchSources } from './watch-sources.ts'

/** Maximum number of changed files that are printed. */
const maxPrinted = 3

/**
 * Runs API and worker, and restarts them when source files of the app change. Runs the migrations again if a file of SQL
 * has changed, or if they have failed. When a process ends unexpectedly, for example because of a syntax error, waits
 * for the next change.
 *
 * @param root the directory of the app
 */
export async function restartOnChange(dev: Dev, root: string): Promise<DevEnd> {
  const watcher = watchSources(root, { ignored: [resolvePath(dev.settings.DATA_DIR)] })
  const nextChange = async () => {
    const files = await watcher.next()
    printStep(`${describe(files)} changed`)
    return files
  }
  const stopped = dev.stop.promise.then(() => ({ reason: 'stopped' }) as const)
  const postgresEnded = dev.postgresEnded.then((message) => ({ reason: 'failed', message, isPostgres: true }) as const)
  try {
    let migrates = true
    const onMigrated = () => {
      migrates = false
    }
    for (let isRestart = false; ; isRestart = true) {
      const changed = nextChange()
      const ended = await runServers(dev, { migrates, changed, isRestart, onMigrated })
      if (ended.reason === 'stopped' || (ended.reason === 'failed' && ended.isPostgres)) return ended
      if (ended.reason === 'failed') {
        if (ended.message) console.error(`error: ${ended.message}`)
        watcher.includeNew()
        printStep('waiting for a change of the source files')
      }
      const next = await Promise.race([changed, stopped, postgresEnded])
      if (!Array.isArray(next)) return next
      migrates ||= next.some((file) => file.endsWith('.sql'))
    }
  } finally {
    watcher.close()
  }
}

function describe(files: readonly string[]): string {
  const more = files.length - maxPrinted
  return printable(files.slice(0, maxPrinted).join(', ')) + (more > 0 ? ` and ${more} more` : '')
}
