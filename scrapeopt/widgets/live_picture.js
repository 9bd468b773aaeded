// A picture is drawn when its frame changes; its marks move without drawing it anew; a store that is clicked is told.
(() => {
  const light = matchMedia("(prefers-color-scheme: dark)"), watched = new Map()

  function message(box, kind) {
    const script = box.querySelector(`.live-${kind} script`)
    return script ? JSON.parse(script.textContent) : null
  }

  async function draw(box) {
    const state = watched.get(box), frame = message(box, "frame"), canvas = box.querySelector(".live-canvas")
    if (!state || state.busy || !frame || !canvas?.isConnected) return
    if (state.scene !== frame.scene || state.canvas !== canvas) {
      state.busy = true
      try {
        if (state.doc) state.doc.clear()
        canvas.replaceChildren()
        const views = await Bokeh.embed.embed_item(frame.item, canvas)
        state.doc = [...views][0].model.document
        if (watched.get(box) !== state) return state.doc.clear()  // it was taken off the page while it was drawn
        Object.assign(state, {scene: frame.scene, canvas})
        listen(box, state.doc)
        paint(box)
      } catch (error) {
        if (canvas.isConnected && !error.message.includes("must be under <body>")) throw error
        return forget(box)  // `find` draws it when it is back
      } finally { state.busy = false }
    }
    mark(box)
    if (message(box, "frame").scene !== state.scene) draw(box)  // another one came while this was drawn
  }

  function forget(box) {
    watched.get(box)?.doc?.clear()
    watched.delete(box)
  }

  function mark(box) {
    const state = watched.get(box), marks = message(box, "marks")
    if (!marks || marks.scene !== state.scene) return
    box.querySelector(".live-canvas").setAttribute("aria-label", marks.caption)
    for (const [name, data] of Object.entries(marks.data)) {
      const source = state.doc.get_model_by_name(name)
      source.selected.indices = []
      source.data = {...source.data, ...data}
    }
    point(box)
  }

  function point(box) {  // a ring around the store that was found, and there if it is out of sight
    const state = watched.get(box), id = message(box, "found")?.store
    const stores = state.doc.get_model_by_name("stores"), found = state.doc.get_model_by_name("found")
    if (!stores || !found) return
    const i = id ? stores.data.store_id.indexOf(id) : -1
    const at = i < 0 ? {x: [], y: []} : {x: [stores.data.x[i]], y: [stores.data.y[i]]}
    found.data = at
    if (i >= 0 && state.found !== `${id} ${state.scene}`) {
      const figure = [...state.doc.all_models].find(model => model.x_range && model.y_range)
      look(figure.x_range, at.x[0])
      look(figure.y_range, at.y[0])
    }
    state.found = `${id} ${state.scene}`
  }

  function look(range, value, tries = 50) {
    const {start, end} = range, half = (end - start) / 2
    if (!Number.isFinite(half)) return tries && setTimeout(look, 100, range, value, tries - 1)  // not laid out yet
    if (value > start && value < end) return
    range.have_updated_interactively = true  // as after a drag: the range is no longer that of the data
    range.setv({start: value - half, end: value + half})
  }

  function listen(box, doc) {
    for (const source of doc.all_models) {
      if (source.type !== "ColumnDataSource" || !source.data.store_id) continue
      source.selected.properties.indices.change.connect(() => {
        const i = source.selected.indices[0], pick = box.querySelector(".live-pick input")
        if (i === undefined || !pick) return
        pick.value = source.data.store_id[i]
        pick.dispatchEvent(new Event("input", {bubbles: true}))
        pick.dispatchEvent(new Event("change", {bubbles: true}))
      })
    }
  }

  function paint(box) {  // what is neither a store nor a line of data has the colours of the page
    const {doc, canvas} = watched.get(box)
    if (!doc) return
    const ink = getComputedStyle(canvas).color
    const thin = share => ink.replace(/rgba?\(([^,]+,[^,]+,[^,)]+).*/, `rgba($1, ${share})`)
    for (const model of doc.all_models) {
      for (const key of ["axis_label_text_color", "major_label_text_color", "label_text_color", "title_text_color"])
        if (model[key] !== undefined) model[key] = ink
      for (const key of ["axis_line_color", "major_tick_line_color", "minor_tick_line_color", "outline_line_color"])
        if (model[key]) model[key] = thin(0.4)
      if (model.grid_line_color) model.grid_line_color = thin(0.08)
      if (!model.tags.includes("ink")) continue
      for (const key of ["line_color", "text_color"]) if (model[key] !== undefined) model[key] = ink
      if (model.type === "MultiPolygons") model.fill_color = ink  // the land; a ring is empty inside
    }
  }

  const named = new WeakSet()

  function name() {  // a slider says what it is, and its value without the tail of binary fractions
    for (const handle of document.querySelectorAll(".scrapeopt-dashboard .noUi-handle")) {
      const slider = handle.closest(".widget-slider"), label = slider.querySelector(".widget-label").textContent
      handle.setAttribute("aria-label", label)
      const readout = slider.querySelector(".widget-readout")
      readout.setAttribute("role", "textbox")
      readout.setAttribute("aria-label", `${label}, typed`)
      if (named.has(handle)) continue
      named.add(handle)
      const say = () => {
        const told = handle.getAttribute("aria-valuetext"), clean = `${+Number(told).toPrecision(12)}`
        if (told && clean !== "NaN" && clean !== told) handle.setAttribute("aria-valuetext", clean)
      }
      new MutationObserver(say).observe(handle, {attributes: true, attributeFilter: ["aria-valuetext"]})
      say()
    }
  }

  function find() {
    name()
    for (const box of watched.keys()) if (!box.isConnected) forget(box)
    for (const box of document.querySelectorAll(".scrapeopt-live")) {
      if (watched.has(box) || !box.querySelector(".live-canvas")) continue
      watched.set(box, {})
      const changes = new MutationObserver(() => draw(box))
      for (const part of box.querySelectorAll(".live-frame, .live-marks, .live-found"))
        changes.observe(part, {childList: true, subtree: true})
      draw(box)
    }
  }

  clearInterval(window.scrapeoptFinds)  // of a dashboard that was run before in this page
  window.scrapeoptFinds = setInterval(find, 100)
  const repaint = () => setTimeout(() => [...watched.keys()].forEach(paint), 50)
  light.addEventListener("change", repaint)
  new MutationObserver(repaint).observe(document.body, {attributes: true, attributeFilter: ["data-jp-theme-name"]})
})()
