// Puts the page together.

drawFindings();
drawHeader();
drawBudget();
wireTimeline();
startCpus();
startLanes();
startPath();
startFlames();
drawThreads();
drawObjects();
drawFunctions();
drawHealth();
drawGlossary();
show(0, WALL);
document.documentElement.dataset.ready = 'yes';
