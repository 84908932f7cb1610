/** For a module of the bench in a process of its own: tells that it is ready. It ends with whoever started it. */
export function ready(): void {
  process.once('disconnect', () => process.exit())
  process.send?.({})
}
