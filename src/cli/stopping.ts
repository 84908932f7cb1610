/**
 * Resolves when the process is asked to stop: by SIGINT or SIGTERM, or by the end of the parent that started it with an
 * IPC channel. Asked a second time, the process exits at once.
 */
export function askedToStop(): Promise<void> {
  return new Promise((resolve) => {
    let asked = false
    const ask = () => {
      if (asked) process.exit(1)
      asked = true
      resolve()
    }
    process.on('SIGINT', ask)
    process.on('SIGTERM', ask)
    // The parent's end is no second wish.
    process.once('disconnect', () => resolve())
  })
}
