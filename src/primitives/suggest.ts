/** A name with more edits than this is another name, not a misspelt one. */
const maxEdits = 3
const minSimilarity = 0.4

/** Counts the letters to insert, delete or replace (Levenshtein). */
function countEdits(from: string, to: string): number {
  let previous = Array.from({ length: to.length + 1 }, (_, column) => column)
  for (const [row, letter] of [...from].entries()) {
    const current = [row + 1]
    for (const [column, other] of [...to].entries()) {
      const replaced = (previous[column] as number) + (letter === other ? 0 : 1)
      current.push(Math.min(replaced, (previous[column + 1] as number) + 1, (current[column] as number) + 1))
    }
    previous = current
  }
  return previous.at(-1) as number
}

/** Finds the name that was probably meant. The case makes no difference, and the end of the name may be missing. */
export function suggest(given: string, names: readonly string[]): string | undefined {
  const lower = given.toLowerCase()
  const ranked = names.map((name) => {
    const length = Math.max(given.length, name.length)
    const edits = length > 100 ? length : countEdits(lower, name.toLowerCase())
    return { name, edits, isSimilar: edits <= maxEdits && (length - edits) / length > minSimilarity }
  })
  const [best] = ranked.filter(({ isSimilar }) => isSimilar).sort((a, b) => a.edits - b.edits)
  return best?.name ?? (lower.length > 2 ? names.find((name) => name.toLowerCase().startsWith(lower)) : undefined)
}
