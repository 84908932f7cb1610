/**
 * Waits until all output has been written. A pipe holds 64 kB, and `process.exit` would discard the rest. Also resolves
 * when the reader has closed the pipe, as `head` does.
 */
export async function flushOutput(): Promise<void> {
  await Promise.all(
    [process.stdout, process.stderr].map((stream) => {
      stream.on('error', () => {})
      return new Promise<void>((resolve) => stream.write('', () => resolve()))
    }),
  )
}
