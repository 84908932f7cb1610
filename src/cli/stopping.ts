import { lastSeconds } from '../config.ts'

/** What npm and the terminal send together counts once; nobody asks twice so fast. In milliseconds. */
const sameSignalWithin = 100

/**
 * Resolves when the process is asked to stop: by SIGINT or SIGTERM, or by the end of the parent that started it with an
 * IPC channel. Asked a second time, the process exits at once; and it exits some seconds after the grace, whatever hangs.
 *
 * @param graceSeconds how long what runs may go on
 */
export function askedToStop(graceSeconds: number): Promise<void> {
  return new Promise((resolve) => {
    const begin = () => {
      setTimeout(giveUp, (graceSeconds + lastSeconds) * 1000, graceSeconds).unref()
      resolve()
    }
    let askedAt: number | undefined
    const ask = () => {
      askedAt ??= performance.now()
      if (performance.now() - askedAt > sameSignalWithin) process.exit(1)
      begin()
    }
    process.on('SIGINT', ask)
    process.on('SIGTERM', ask)
    // The parent's end is no second wish.
    process.once('disconnect', begin)
  })
}

function giveUp(graceSeconds: number): never {
  console.error(
    `error: What ran did not end within GRACE_SECONDS=${graceSeconds}, and ${lastSeconds} s more; it is cut off.`,
  )
  process.exit(1)
}
